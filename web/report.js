// The report's script. The page reads without it; this adds sorting, filters, short lists, the choice of a neuron, the
// heat-map controls, the theme, and saving the data. It loads nothing and writes text only, never markup.
(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("scripted");

  // Where storage is refused (some browsers do for file://), a choice lasts as long as the page.
  const remember = (key, value) => { try { localStorage.setItem("pellucid-" + key, value); } catch { /* refused */ } };
  const recall = (key) => { try { return localStorage.getItem("pellucid-" + key); } catch { return null; } };

  // Theme: system, light, dark.
  const themes = ["system", "light", "dark"];
  const themeButton = document.querySelector("[data-theme-next]");
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    themeButton.textContent = "Theme: " + theme;
  };
  setTheme(themes.includes(recall("theme")) ? recall("theme") : "system");
  themeButton.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    setTheme(next);
    remember("theme", next);
  });

  // The data, as they stand in the page.
  document.querySelector("[data-save]").addEventListener("click", () => {
    const text = document.getElementById("diagnosis").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "diagnosis.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // Lists: sorted, filtered, and short until asked for more.
  const compare = (key) => (a, b) => {
    const [x, y] = [a.dataset[key], b.dataset[key]];
    const [m, n] = [Number(x), Number(y)];
    return Number.isFinite(m) && Number.isFinite(n) && x !== "" && y !== "" ? m - n : x.localeCompare(y);
  };
  for (const list of all("[data-list]")) {
    const page = Number(list.dataset.list);
    const items = [...list.children];
    const noun = list.dataset.noun;
    const controls = list.id ? document.querySelector(`.controls[data-for="${list.id}"]`) : null;
    const sort = controls?.querySelector("[data-sort]");
    const find = controls?.querySelector("[data-find]");
    const filters = controls ? all("[data-filter]", controls) : [];
    let limit = page;

    const more = document.createElement("p");
    more.className = "more";
    const button = document.createElement("button");
    button.type = "button";
    const status = document.createElement("span");
    status.setAttribute("role", "status");
    more.append(button, status);
    (list.closest("table") ?? list).after(more);

    const show = () => {
      const wanted = find?.value.trim().toLocaleLowerCase() ?? "";
      const matches = items.filter((item) =>
        filters.every((f) => f.value === "" || item.dataset[f.dataset.filter] === f.value) &&
        (wanted === "" || item.dataset.name.toLocaleLowerCase().includes(wanted)));
      if (sort) {
        matches.sort(compare(sort.value));
        list.append(...matches);
      }
      const shown = new Set(matches.slice(0, limit));
      for (const item of items) item.hidden = !shown.has(item);
      const rest = matches.length - shown.size;
      button.hidden = rest === 0 && (limit === page || matches.length <= page);
      button.textContent = rest > 0 ? `Show all ${matches.length} ${noun}` : "Show fewer";
      status.textContent = matches.length < items.length
        ? `${matches.length} of ${items.length} ${noun} match` : "";
      more.hidden = button.hidden && status.textContent === "";
    };
    button.addEventListener("click", () => {
      limit = limit === page ? Infinity : page;
      show();
    });
    controls?.addEventListener("input", show);
    show();
  }

  // Neurons: the list chooses which card is open.
  const open = (explorer, id) => {
    for (const card of all(".card", explorer)) card.hidden = id !== null && card.id !== id;
    for (const link of all(".neurons a", explorer)) {
      if (id !== null && link.hash === "#" + id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const button = explorer.querySelector("[data-all]");
    button.textContent = id === null ? "Show one card" : "Show all cards";
    button.dataset.all = id === null ? "all" : "one";
  };
  const openFromAddress = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const card = id ? document.getElementById(id) : null;
    if (!card?.classList.contains("card")) return;
    open(card.closest("[data-explorer]"), id);
    card.scrollIntoView({ block: "start" });
    card.focus({ preventScroll: true });
  };
  for (const explorer of all("[data-explorer]")) {
    const links = all(".neurons a", explorer);
    const button = explorer.querySelector("[data-all]");
    const first = (explorer.querySelector("[data-first]") ?? links[0])?.hash.slice(1) ?? null;
    open(explorer, first);
    button.addEventListener("click", () => {
      open(explorer, button.dataset.all === "all" ? first : null);
    });
    links.forEach((link, place) => {
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        const id = link.hash.slice(1);
        open(explorer, id);
        const card = document.getElementById(id);
        // Beside the list the card is in view; below it, it has to be brought there.
        if (card.getBoundingClientRect().left < link.getBoundingClientRect().right) card.scrollIntoView({ block: "start" });
      });
      link.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        const next = step && links[place + step];
        if (!next) return;
        event.preventDefault();
        next.focus();
        open(explorer, next.hash.slice(1));
      });
    });
  }
  addEventListener("hashchange", openFromAddress);
  openFromAddress();

  // Heat maps: one choice for the whole page.
  for (const button of all("button[data-heat]")) {
    button.addEventListener("click", () => {
      root.dataset.heat = button.dataset.heat;
      for (const other of all("button[data-heat]")) {
        other.setAttribute("aria-pressed", String(other.dataset.heat === button.dataset.heat));
      }
    });
  }
  for (const slider of all("[data-strength]")) {
    slider.addEventListener("input", () => {
      root.style.setProperty("--strength", String(slider.value / 100));
      for (const other of all("[data-strength]")) other.value = slider.value;
    });
  }

  // The contents follow the reader.
  const links = new Map(all(".contents a").map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const follow = () => {
    const line = innerHeight * 0.3;
    let current = sections[0];
    for (const section of sections) if (section.getBoundingClientRect().top <= line) current = section;
    if (innerHeight + scrollY >= document.body.scrollHeight - 2) current = sections.at(-1);
    for (const [id, link] of links) {
      if (id === current?.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; follow(); });
  }, { passive: true });
  follow();
})();
