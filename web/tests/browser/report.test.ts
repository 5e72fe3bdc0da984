// The report as its reader has it.
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { overhang, start } from "./pages";

let browser: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  browser = await start();
});
afterAll(() => browser?.stop());

it("runs its script under its own policy, and a class's name stays a name", async () => {
  const { page, complaints } = await browser.open("report.html");
  expect(await page.locator("html.scripted").count()).toBe(1);
  expect(await page.title()).toMatch(/^Diagnosis of /);
  expect(await page.getByText("document.title='owned'").count()).toBeGreaterThan(0);
  expect(complaints).toEqual([]);
});

it("opens one card, which the list chooses by mouse and by arrow keys, or all", async () => {
  const { page, complaints } = await browser.open("report.html");
  const open = page.locator("article.card:visible");
  expect(await open.count()).toBe(1);
  const links = page.locator(".neurons a");
  const target = async (place: number) => (await links.nth(place).getAttribute("href"))?.slice(1);
  await links.nth(2).click();
  expect(await open.getAttribute("id")).toBe(await target(2));
  await page.keyboard.press("ArrowDown");
  expect(await open.getAttribute("id")).toBe(await target(3));
  await page.getByRole("button", { name: "Show all cards" }).click();
  expect(await open.count()).toBe(await page.locator("article.card").count());
  await page.getByRole("button", { name: "Show one card" }).click();
  expect(await open.count()).toBe(1);
  expect(complaints).toEqual([]);
});

it("sorts, filters and unfolds its lists", async () => {
  const { page, complaints } = await browser.open("report.html");
  const sort = page.locator(".controls[data-for] [data-sort]").first();
  const list = page.locator(`#${await sort.evaluate((e) => e.closest<HTMLElement>("[data-for]")?.dataset["for"])}`);
  const items = list.locator("> :visible");
  const folded = await items.count();
  const more = page.getByRole("button", { name: /^Show all \d+ / }).first();
  const total = Number((await more.innerText()).match(/\d+/)?.[0]);
  expect(total).toBeGreaterThan(folded);
  await more.click();
  expect(await page.getByRole("button", { name: "Show fewer" }).first().isVisible()).toBe(true);

  const by = await sort.locator("option").last().getAttribute("value");
  await sort.selectOption(by);
  const keys = await list.locator("> *").evaluateAll((all, key) => all.map((e) => (e as HTMLElement).dataset[key ?? ""]), by);
  const sorted = keys.toSorted((a = "", b = "") => {
    const [m, n] = [Number(a), Number(b)];
    return Number.isFinite(m) && Number.isFinite(n) ? m - n : a.localeCompare(b);
  });
  expect(keys).toEqual(sorted);

  const find = page.locator("[data-find]").first();
  if (await find.count()) {
    await find.fill("espresso");
    await expect.poll(() => page.locator("[role=status]", { hasText: /match$/ }).count()).toBeGreaterThan(0);
  }
  expect(complaints).toEqual([]);
});

it("shows, outlines and hides heat maps for the whole page", async () => {
  const { page, complaints } = await browser.open("report.html");
  const heat = page.locator("article.card:visible .heat").first();
  const opacity = () => heat.evaluate((e) => Number(getComputedStyle(e).opacity));
  await expect.poll(opacity).toBeCloseTo(0.85);
  await page.locator("[data-strength]:visible").first().fill("40");
  await expect.poll(opacity).toBeCloseTo(0.4);
  await page.locator("button[data-heat=off]:visible").first().click();
  await expect.poll(opacity).toBe(0);
  expect(await page.locator(".outline:visible").count()).toBe(0);
  expect(complaints).toEqual([]);
});

it("saves the data that it carries", async () => {
  const { page } = await browser.open("report.html");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Save data" }).click()]);
  expect(download.suggestedFilename()).toBe("diagnosis.json");
  const saved: unknown = JSON.parse(await readFile(await download.path(), "utf8"));
  expect(saved).toHaveProperty("summary.classes");
});

it.each(["report.html", "report-long.html"])("%s is as wide as its window", async (name) => {
  for (const width of [1400, 400]) {
    const { page, complaints } = await browser.open(name, { width });
    expect(await overhang(page)).toBe(0);
    expect(complaints).toEqual([]);
  }
});

it("reads without a script: every card is open, and no control stands there without effect", async () => {
  const { page, complaints } = await browser.open("report.html", { hasScript: false });
  expect(await page.locator("article.card:visible").count()).toBe(await page.locator("article.card").count());
  expect(await page.locator("button:visible, select:visible, input:visible").count()).toBe(0);
  expect(complaints).toEqual([]);
});
