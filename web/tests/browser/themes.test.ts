// Every page in the theme of the system, and in the one that its reader chooses.
import { afterAll, beforeAll, expect, it } from "vitest";
import { paper, start } from "./pages";

let browser: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  browser = await start();
});
afterAll(() => browser?.stop());

it.each(["report.html", "diffusion.html"])("%s has two themes, of the system and of choice", async (name) => {
  const light = await browser.open(name, { theme: "light" });
  const dark = await browser.open(name, { theme: "dark" });
  const [bright, dim] = [await paper(light.page), await paper(dark.page)];
  expect(bright).not.toBe(dim);
  await light.page.getByRole("button", { name: "Theme: system" }).click();
  await light.page.getByRole("button", { name: "Theme: light" }).click();
  expect(await paper(light.page)).toBe(dim);
  expect([...light.complaints, ...dark.complaints]).toEqual([]);
});
