/// <reference types="vitest/config" />
// One bundle a page, `--mode report` or `--mode diffusion`: a script that runs at once and a style sheet, both put into
// the page by crate pellucid-report, where they are committed so that the crate can be built and packaged without Node.js.
import { defineConfig } from "vite";

const ENTRIES = { report: "src/report/main.ts", diffusion: "src/diffusion/main.tsx" } as const;

export default defineConfig(({ mode }) => {
  const page = mode === "diffusion" ? "diffusion" : "report";
  return {
    build: {
      // `make check-web` builds elsewhere and compares.
      outDir: process.env["PELLUCID_BUNDLES"] ?? "../crates/pellucid-report/web",
      // The other page's bundle is there too.
      emptyOutDir: false,
      target: ["chrome111", "firefox114", "safari16.4"],
      lib: {
        entry: ENTRIES[page],
        formats: ["iife"],
        name: "pellucid",
        fileName: () => `${page}.js`,
        cssFileName: page,
      },
    },
    test: {
      projects: [
        { extends: true, test: { name: "unit", include: ["tests/unit/**/*.test.ts"] } },
        {
          extends: true,
          test: {
            name: "browser",
            include: ["tests/browser/**/*.test.ts"],
            testTimeout: 30_000,
            hookTimeout: 60_000,
            // One browser at a time: two cores are enough for that.
            fileParallelism: false,
          },
        },
      ],
    },
  };
});
