// The theme: as the system has it, light, or dark. The button is Rust's; its text is the choice.

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const KEY = "pellucid-theme";

/** The theme that follows `current` when the button is pressed. */
export function nextTheme(current: string | undefined): Theme {
  return THEMES[(THEMES.findIndex((theme) => theme === current) + 1) % THEMES.length] ?? "system";
}

/** `text` where it names a theme, `system` otherwise. */
export function knownTheme(text: string | null): Theme {
  return THEMES.find((theme) => theme === text) ?? "system";
}

// Where storage is refused (some browsers do for file://), a choice lasts as long as the page.
function remembered(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    /* refused */
  }
}

/** Takes over the button with `data-theme-next`. */
export function startTheme(): void {
  const button = document.querySelector("[data-theme-next]");
  if (!button) return;
  const show = (theme: Theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  show(knownTheme(remembered()));
  button.addEventListener("click", () => {
    const theme = nextTheme(document.documentElement.dataset.theme);
    show(theme);
    remember(theme);
  });
}
