// The diffusion page as its reader has it.
import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { clipped, file, overhang, start } from "./pages";

const STEPS = 12;
let browser: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  browser = await start();
});
afterAll(() => browser?.stop());

const where = (page: Page) => page.locator(".timeline output").innerText();
/** The step that every part of the page shows; parts that disagree make the test fail. */
async function step(page: Page): Promise<number> {
  const shown = await page.evaluate(() => ({
    slider: Number(document.querySelector<HTMLInputElement>(".timeline input")?.value),
    film: [...document.querySelectorAll(".film li")].findIndex((frame) => frame.hasAttribute("aria-current")),
    cursors: [...document.querySelectorAll(".cursor")].map((cursor) => Number(cursor.getAttribute("x1"))),
  }));
  expect(shown.film).toBe(shown.slider);
  const place = 44 + ((508 - 44) * shown.slider) / (STEPS - 1);
  for (const cursor of shown.cursors) expect(cursor).toBeCloseTo(place, 6);
  expect(shown.cursors.length).toBe(3);
  expect(await where(page)).toContain(`step ${shown.slider + 1} of ${STEPS}, t = ${981 - 80 * shown.slider}`);
  return shown.slider;
}
/** The pixels of a tile, once they no longer change. */
async function pixels(page: Page, tile: string): Promise<number[]> {
  return page.locator(`[data-tile="${tile}"] canvas`).evaluate(async (canvas: HTMLCanvasElement) => {
    const read = () => [...(canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data ?? [])];
    let before: number[] = [];
    for (let now = read(); String(now) !== String(before); now = read()) {
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 60));
    }
    return before;
  });
}

it("is scrubbed by mouse, keyboard, film and chart, and all its parts show the same step", async () => {
  const { page, complaints } = await browser.open("diffusion.html");
  expect(await step(page)).toBe(4);
  const before = await pixels(page, "rise");

  const slider = page.locator(".timeline input");
  const box = await slider.boundingBox();
  if (!box) throw new Error("the slider is not there");
  await page.mouse.click(box.x + box.width - 4, box.y + box.height / 2);
  expect(await step(page)).toBe(STEPS - 1);
  expect(await page.locator('[data-measured]:not([hidden])').getAttribute("data-measured")).toBe("11");

  await page.keyboard.press("ArrowLeft");
  expect(await step(page)).toBe(STEPS - 2);
  await page.keyboard.press("Home");
  expect(await step(page)).toBe(0);
  await slider.blur();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  expect(await step(page)).toBe(2);

  await page.locator(".film li").nth(7).click();
  expect(await step(page)).toBe(7);
  expect(await pixels(page, "rise")).not.toEqual(before);

  await page.locator("svg.linked").first().scrollIntoViewIfNeeded();
  const chart = await page.locator("svg.linked").first().boundingBox();
  if (!chart) throw new Error("the chart is not there");
  await page.mouse.click(chart.x + chart.width - 2, chart.y + chart.height / 2);
  expect(await step(page)).toBe(STEPS - 1);

  await page.getByRole("button", { name: "Play" }).click();
  await expect.poll(() => slider.inputValue()).not.toBe(String(STEPS - 1));
  await page.getByRole("button", { name: "Pause" }).click();
  expect(complaints).toEqual([]);
});

it("draws a map as the command's PNG file shows it, to the byte", async () => {
  const { page } = await browser.open("diffusion.html");
  await page.locator(".film li").nth(5).click();
  const drawn = await pixels(page, "rise");
  const png = `data:image/png;base64,${readFileSync(file("rise.png")).toString("base64")}`;
  const written = await page.evaluate(async (address) => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context?.drawImage(image, 0, 0);
    return [...(context?.getImageData(0, 0, canvas.width, canvas.height).data ?? [])];
  }, png);
  expect(written.length).toBe(4 * 256 * 256);
  expect(drawn).toEqual(written);
});

it("follows the choice of word, layer, block and strength", async () => {
  const { page, complaints } = await browser.open("diffusion.html");
  const reading = (tile: string) => page.locator(`[data-tile="${tile}"] .reading`);
  // The longest word comes first.
  expect(await reading("attention").innerText()).toBe("“mushroom”");
  await page.locator(".words button", { hasText: "frog" }).click();
  expect(await reading("attention").innerText()).toBe("“frog”");
  expect(await page.locator(".words [aria-pressed=true]").innerText()).toBe("frog");
  const mean = await pixels(page, "attention");
  await page.getByLabel("Layer").selectOption({ index: 2 });
  expect(await reading("attention").innerText()).toMatch(/^“frog”, \/down_blocks.1\//);
  expect(await pixels(page, "attention")).not.toEqual(mean);
  await page.getByLabel("DF-CAM block").selectOption({ label: "mid_block" });
  expect(await reading("cam").innerText()).toBe("mid_block");
  expect(await page.locator('[data-tile="cam"] .trusted').count()).toBe(0);
  await page.getByLabel("Strength").fill("0");
  expect(await pixels(page, "rise")).toEqual(await pixels(page, "clean"));
  expect(complaints).toEqual([]);
});

it.each(["diffusion.html", "diffusion-long.html"])("%s is as wide as its window, and no label is cut off", async (name) => {
  for (const width of [1400, 400]) {
    const { page, complaints } = await browser.open(name, { width });
    expect(await overhang(page)).toBe(0);
    expect(await clipped(page)).toEqual([]);
    expect(complaints).toEqual([]);
  }
});

it("reads without a script, and prints what it shows", async () => {
  const { page, complaints } = await browser.open("diffusion.html", { hasScript: false });
  expect(await page.locator(".step-tile img").count()).toBe(6);
  expect(await page.locator(".no-js").innerText()).toContain("step 5 of 12");
  expect(await page.locator('[data-tile="rise"] .reading').innerText()).toContain("reliability 0.91");
  expect(await page.locator(".timeline").isVisible()).toBe(false);
  await page.emulateMedia({ media: "print" });
  expect(await page.locator('[data-tile="rise"] img').isVisible()).toBe(true);
  const scripted = await browser.open("diffusion.html");
  await scripted.page.emulateMedia({ media: "print" });
  expect(await scripted.page.locator('[data-tile="rise"] canvas').isVisible()).toBe(true);
  expect(await scripted.page.locator(".words canvas").first().isVisible()).toBe(true);
  expect(await scripted.page.locator(".timeline").isVisible()).toBe(false);
  expect(complaints).toEqual([]);
});
