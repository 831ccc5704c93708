"use strict";
// Figures are drawn when they come near, in the page's colours; tables are sorted; the place is shown.
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const touch = matchMedia("(pointer: coarse)").matches;
  let printing = false;

  let ready = null;
  function library() {
    ready ??= (async () => {
      const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
    })();
    return ready;
  }

  function painted(value, levels, isDark) {
    if (Array.isArray(value)) return value.map((v) => painted(v, levels, isDark));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v, levels, isDark)]));
    if (typeof value !== "string" || value[0] !== "@") return value;
    const [name, share] = value.slice(1).split("/");
    if (!/^\d+$/.test(name)) return getComputedStyle(root).getPropertyValue("--" + name).trim();
    const hex = levels[+name][isDark ? "dark" : "light"];
    return share ? hex + Math.round(255 * share).toString(16).padStart(2, "0") : hex;
  }

  const shapes = {
    circle: '<circle r="4"/>', square: '<rect x="-3.6" y="-3.6" width="7.2" height="7.2"/>',
    "triangle-up": '<path d="M0-4.6 4.4 3.4-4.4 3.4z"/>', "triangle-down": '<path d="M0 4.6 4.4-3.4-4.4-3.4z"/>',
    diamond: '<path d="M0-5 4.6 0 0 5-4.6 0z"/>', cross: '<path d="M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z"/>',
    x: '<path d="M-4-4 4 4M4-4-4 4" stroke-width="2.5"/>',
  };
  function swatch(level) {
    const colour = level[dark() && !printing ? "dark" : "light"];
    return `<svg viewBox="0 0 44 16" aria-hidden="true"><g stroke="${colour}" fill="${colour}"><path d="M1 8H43" ` +
      `stroke-width="2" stroke-dasharray="${level.dash}"/><g transform="translate(22 8)">${shapes[level.symbol]}</g></g></svg>`;
  }

  function shown(trace, state) {
    const { level, kind } = trace.meta || { level: -1, kind: "cell" };
    return !state.hidden.has(level) && (kind !== "run" || state.seeds);
  }

  const states = new Map();
  function redraw(figure) {
    const state = states.get(figure);
    const { plot } = state;
    const isDark = dark() && !printing;
    figure.querySelectorAll(".panel").forEach((place, i) => {
      const panel = plot.panels[i];
      const data = panel.data.map((trace) => ({ ...painted(trace, plot.levels, isDark), visible: shown(trace, state) }));
      const layout = { ...painted(panel.layout, plot.levels, isDark), height: panel.height, dragmode: touch ? false : "zoom" };
      Plotly.react(place, data, layout, { responsive: true, displayModeBar: false, doubleClick: "reset" });
      if (!place.dataset.bound) {
        place.dataset.bound = "yes";
        place.on("plotly_click", (event) => go((event.points[0].customdata || [])[1]));
      }
    });
    figure.querySelectorAll(".chips button[data-level]").forEach((button) => {
      button.firstElementChild?.remove();
      button.insertAdjacentHTML("afterbegin", swatch(plot.levels[+button.dataset.level]));
    });
  }

  function chips(figure, state) {
    const { plot } = state;
    const place = figure.querySelector(".chips");
    const button = (label, pressed, act, extra) => {
      const made = document.createElement("button");
      made.type = "button";
      made.append(label);
      made.setAttribute("aria-pressed", pressed);
      if (extra) made.className = "extra";
      made.addEventListener("click", () => { made.setAttribute("aria-pressed", act()); redraw(figure); });
      place.append(made);
      return made;
    };
    if (plot.levels.length > 1) {
      const title = document.createElement("span");
      title.textContent = plot.title;
      place.append(title);
      plot.levels.forEach((level, i) => {
        const made = button(level.label, true, () => !(state.hidden.delete(i) || !state.hidden.add(i)) ? false : true);
        made.dataset.level = i;
      });
    }
    if (plot.seeds) button("single runs", false, () => (state.seeds = !state.seeds), true);
  }

  async function draw(figure) {
    if (states.has(figure)) return;
    const plot = JSON.parse(figure.querySelector("script").textContent);
    const state = { plot, hidden: new Set(), seeds: false };
    states.set(figure, state);
    await library();
    const panels = figure.querySelector(".panels");
    plot.panels.forEach((panel) => {
      const box = document.createElement("div");
      const title = document.createElement("h5");
      title.textContent = panel.title;
      const place = document.createElement("div");
      place.className = "panel";
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", `${panel.title}. ${figure.querySelector("img").alt}`);
      place.style.minHeight = panel.height + "px";
      box.append(...(panel.title ? [title] : []), place);
      panels.append(box);
    });
    chips(figure, state);
    figure.classList.add("drawn");
    redraw(figure);
  }

  function go(target) {
    if (!target) return;
    const rows = target.startsWith("run-") ? [document.getElementById(target)] : [...document.querySelectorAll(`tr[data-cell="${target}"]`)];
    document.querySelectorAll("tr.chosen").forEach((row) => row.classList.remove("chosen"));
    const found = rows.filter(Boolean);
    found.forEach((row) => row.classList.add("chosen"));
    found[0]?.scrollIntoView({ block: "center" });
  }

  const number = (text) => { const found = text.replace(/[,>]/g, "").trim().replace("−", "-").match(/^[-+]?[\d.]+(e[-+]?\d+)?/); return found ? +found[0] : NaN; };
  function sort(table, column, header) {
    const up = header.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const text = (row) => row.cells[column].textContent.trim();
    const order = (a, b) => {
      const [x, y] = [number(a), number(b)];
      if (a === "" || b === "") return (a === "") - (b === "") ;
      return (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y) * (up ? 1 : -1);
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => order(text(a), text(b))));
  }
  document.querySelectorAll(".frame table").forEach((table) => {
    [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((header, column) => {
      if (!header.textContent.trim() || table.tBodies[0].rows.length < 2) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = header.textContent;
      header.replaceChildren(button);
      button.addEventListener("click", () => sort(table, column, header));
    });
  });

  const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }), { rootMargin: "600px" });
  if (window.DecompressionStream && document.getElementById("library"))
    document.querySelectorAll("figure.plot").forEach((figure) => near.observe(figure));

  const links = new Map([...document.querySelectorAll(".bar nav a")].map((a) => [a.hash.slice(1), a]));
  const place = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }), { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => place.observe(section));

  const again = () => states.forEach((_, figure) => figure.classList.contains("drawn") && redraw(figure));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  document.querySelector(".theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; again(); });
  addEventListener("beforeprint", () => { printing = true; again(); });
  addEventListener("afterprint", () => { printing = false; again(); });
  if (innerWidth < 700) document.querySelector("details.facts")?.removeAttribute("open");
})();
