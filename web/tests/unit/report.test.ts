// Sorting, filtering and shortening of the report's lists; its contents; the theme.
import { describe, expect, it } from "vitest";
import { sectionAt } from "../../src/report/contents";
import { chosen, compare, footer } from "../../src/report/lists";
import { knownTheme, nextTheme } from "../../src/shared/theme";

const items = [
  { name: "Espresso", accuracy: "0.9", truth: "1" },
  { name: "Carton", accuracy: "0.75", truth: "2" },
  { name: "espresso cup", accuracy: "0.1", truth: "1" },
];
const everything = { name: "", filters: [], sort: null };

describe("a list", () => {
  it("keeps its order until asked to sort, then sorts numbers as numbers and names as text", () => {
    expect(chosen(items, everything)).toEqual([0, 1, 2]);
    expect(chosen(items, { ...everything, sort: "accuracy" })).toEqual([2, 1, 0]);
    expect(chosen(items, { ...everything, sort: "name" })).toEqual([1, 0, 2]);
    expect(compare("10", "9")).toBeGreaterThan(0);
    expect(compare("", "a")).toBeLessThan(0);
  });

  it("finds part of a name in any case, and all filters together", () => {
    expect(chosen(items, { ...everything, name: " ESPRESSO" })).toEqual([0, 2]);
    expect(chosen(items, { ...everything, filters: [["truth", "1"], ["accuracy", ""]] })).toEqual([0, 2]);
    expect(chosen(items, { ...everything, filters: [["truth", "1"], ["accuracy", "0.1"]] })).toEqual([2]);
  });

  it("offers the rest, folds again, and says how many match", () => {
    expect(footer(5, 12, 12, 5, "classes")).toEqual({ button: "Show all 12 classes", status: "" });
    expect(footer(12, 12, 12, 5, "classes")).toEqual({ button: "Show fewer", status: "" });
    expect(footer(3, 3, 12, 5, "classes")).toEqual({ button: null, status: "3 of 12 classes match" });
    expect(footer(4, 4, 4, 5, "classes")).toEqual({ button: null, status: "" });
  });
});

it("the contents name the last section that has reached the line", () => {
  expect([sectionAt([10, 400, 900], 300), sectionAt([-500, 20, 700], 300), sectionAt([500], 300)]).toEqual([0, 1, 0]);
});

it("the theme goes round, and what is stored may be anything", () => {
  expect([nextTheme("system"), nextTheme("light"), nextTheme("dark"), nextTheme(undefined)]).toEqual(["light", "dark", "system", "system"]);
  expect([knownTheme("dark"), knownTheme(null), knownTheme("<b>")]).toEqual(["dark", "system", "system"]);
});
