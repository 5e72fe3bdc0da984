// A page in Debian's Chromium: opened from its file, with all that it logs, throws or asks for written down.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type BrowserContext, type Page, chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = process.env["CHROMIUM"] || PLACES.find((place) => existsSync(place));
/** Where `make test-web` lets Rust write the pages. */
const FOLDER = process.env["PELLUCID_PAGES"];

/** A file among the pages. */
export function file(name: string): string {
  if (!FOLDER) throw new Error("PELLUCID_PAGES does not name the folder of the pages; run `make test-web`");
  return join(FOLDER, name);
}

export interface Opened {
  readonly page: Page;
  /** Errors, and requests that leave the file: both have to stay empty. */
  readonly complaints: string[];
}

export interface Settings {
  readonly width?: number;
  readonly theme?: "light" | "dark";
  readonly hasScript?: boolean;
}

/** A browser of one's own. */
export async function start(): Promise<{
  open: (name: string, settings?: Settings) => Promise<Opened>;
  stop: () => Promise<void>;
}> {
  if (!executablePath) throw new Error("no Chromium is installed; `apt-get install chromium`, or name one in CHROMIUM");
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const contexts: BrowserContext[] = [];
  return {
    open: async (name, { width = 1400, theme = "light", hasScript = true } = {}) => {
      const context = await browser.newContext({
        viewport: { width, height: 900 },
        colorScheme: theme,
        javaScriptEnabled: hasScript,
      });
      contexts.push(context);
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.on("request", (request) => {
        if (!/^(file|data|blob):/.test(request.url())) complaints.push(`asked for ${request.url()}`);
      });
      await page.goto(pathToFileURL(file(name)).href);
      return { page, complaints };
    },
    stop: async () => {
      for (const context of contexts) await context.close();
      await browser.close();
    },
  };
}

/** By how many pixels the page is wider than its window. */
export function overhang(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

/** Texts of a chart that reach beyond the chart's own edges, where they would be cut off. */
export function clipped(page: Page): Promise<string[]> {
  return page.evaluate(() =>
    [...document.querySelectorAll("svg.lines")].flatMap((chart) => {
      const frame = chart.getBoundingClientRect();
      return [...chart.querySelectorAll("text")].flatMap((text) => {
        const { left, right, top, bottom } = text.getBoundingClientRect();
        const isInside =
          left >= frame.left - 0.5 && right <= frame.right + 0.5 && top >= frame.top - 0.5 && bottom <= frame.bottom + 0.5;
        return isInside ? [] : [text.textContent];
      });
    }),
  );
}

/** The background of the page. */
export function paper(page: Page): Promise<string> {
  return page.evaluate(() => getComputedStyle(document.body).backgroundColor);
}
