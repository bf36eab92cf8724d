"use strict";
(() => {
  const root = document.documentElement;
  const THEMES = ["system", "light", "dark"];
  const MINUS = "\u2212";

  // Theme: set before the page is drawn, so that nothing flashes.
  const stored = () => { try { return localStorage.getItem("mtl-report-theme"); } catch { return null; } };
  const setTheme = (theme) => {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    try { localStorage.setItem("mtl-report-theme", theme); } catch { /* a file may have no storage: the choice lasts for the visit */ }
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${theme}`;
  };
  let theme = THEMES.includes(stored()) ? stored() : "system";
  root.classList.add("js");
  if (theme !== "system") root.dataset.theme = theme;

  document.addEventListener("DOMContentLoaded", () => {
    setTheme(theme);
    document.getElementById("theme").addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      setTheme(theme);
    });
    panel();
    methods();
    document.querySelectorAll("table.sortable").forEach(sorting);
    reading();
    sections();
  });

  // The panel of small screens.
  function panel() {
    const open = document.getElementById("open"), box = document.getElementById("panel");
    const show = (yes) => { box.classList.toggle("open", yes); open.setAttribute("aria-expanded", String(yes)); };
    open.addEventListener("click", () => show(!box.classList.contains("open")));
    box.querySelector("nav").addEventListener("click", () => show(false));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && box.classList.contains("open")) { show(false); open.focus(); }
    });
  }

  // Methods: one rule hides what is switched off or does not match, everywhere on the page; another lifts one out.
  function methods() {
    const boxes = [...document.querySelectorAll("input[data-method]")];
    const filter = document.getElementById("filter"), shown = document.getElementById("shown");
    const off = document.head.appendChild(document.createElement("style"));
    const hot = document.head.appendChild(document.createElement("style"));
    const apply = () => {
      const wanted = filter.value.trim().toLowerCase();
      const out = [];
      for (const box of boxes) {
        const entry = box.closest(".entry");
        const match = entry.dataset.name.toLowerCase().includes(wanted);
        entry.classList.toggle("out", !match);
        if (!match || !box.checked) out.push(`[data-m="${box.dataset.method}"]`);
      }
      off.textContent = out.length ? `${out.join(",")}{display:none!important}` : "";
      const count = boxes.length - out.length;
      shown.textContent = out.length ? `${count} of ${boxes.length} methods shown` : `${count} method${count === 1 ? "" : "s"}`;
    };
    const check = (yes) => { boxes.forEach((box) => { box.checked = yes; }); apply(); };
    boxes.forEach((box) => box.addEventListener("change", apply));
    filter.addEventListener("input", apply);
    document.getElementById("all").addEventListener("click", () => { filter.value = ""; check(true); });
    document.getElementById("none").addEventListener("click", () => check(false));
    const lift = (key) => {
      hot.textContent = key === null ? "" :
        `svg .s:not([data-m="${key}"]){opacity:.13} svg .s[data-m="${key}"] .l{stroke:var(--c);stroke-width:2.4}`;
    };
    const key = (target) => {
      const entry = target.closest?.(".entry");
      if (entry) return entry.querySelector("input").dataset.method;
      return target.closest?.("tr[data-m], .legend li, .dots .s")?.dataset.m ?? null;
    };
    let last = null;
    const over = (event) => { const now = key(event.target); if (now !== last) { last = now; lift(now); } };
    document.addEventListener("pointerover", over);
    document.addEventListener("focusin", over);
    apply(); // a browser may have kept the boxes of an earlier visit
  }

  // Sorting: the best first, then the other way round; what has no value stays last.
  function sorting(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], body = table.tBodies[0];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const text = head.hasAttribute("data-text");
      const first = text || head.dataset.better === "-1" ? "ascending" : "descending";
      const order = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.v;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        return sign * (text ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y));
      });
      body.append(...rows);
    }));
  }

  // Reading charts: by pointer, or by arrow keys where the chart has the focus.
  function reading() {
    const tip = document.getElementById("tip");
    const hide = () => { tip.hidden = true; document.querySelectorAll(".cross").forEach((line) => line.remove()); };
    const place = (x, y) => {
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      const left = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
      tip.style.left = `${Math.max(6, Math.min(left, innerWidth - width - 6))}px`;
      tip.style.top = `${Math.max(6, Math.min(y - height / 2, innerHeight - height - 6))}px`;
    };
    const pixel = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
    const visible = (element) => element.getClientRects().length > 0 && getComputedStyle(element).display !== "none";

    const scale = (text) => {
      const [low, high, start, end, kind] = text.split(" ");
      const [a, b, c, d] = [low, high, start, end].map(Number);
      return { log: kind === "log", at: (pixels) => a + (pixels - c) / (d - c) * (b - a) };
    };
    const number = (value) => {
      if (!Number.isFinite(value)) return "";
      const size = Math.abs(value);
      const text = size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
      return text.replaceAll("-", MINUS);
    };
    const cache = new WeakMap();
    const lines = (svg) => {
      if (!cache.has(svg)) {
        cache.set(svg, [...svg.querySelectorAll(".s")].map((group) => ({
          group,
          name: group.dataset.name,
          points: group.querySelector(".l").getAttribute("d").slice(1).split("L").map((pair) => pair.split(",").map(Number)),
        })));
      }
      return cache.get(svg);
    };
    const places = (svg) => [...new Set(lines(svg).filter((l) => visible(l.group)).flatMap((l) => l.points.map((p) => p[0])))].sort((a, b) => a - b);
    const showLine = (svg, x, clientY) => {
      hide();
      const xs = scale(svg.dataset.x), ys = scale(svg.dataset.y);
      const rows = [];
      for (const line of lines(svg)) {
        if (!visible(line.group)) continue;
        const point = line.points.find((p) => p[0] === x);
        if (point) rows.push([line.name, ys.at(point[1])]);
      }
      rows.sort((a, b) => b[1] - a[1]);
      const table = document.createElement("table");
      for (const [name, value] of rows.slice(0, 14)) {
        const row = table.insertRow();
        row.insertCell().textContent = name;
        row.insertCell().textContent = number(ys.log ? 10 ** value : value);
      }
      const title = document.createElement("b");
      title.textContent = `${svg.dataset.title} ${number(xs.at(x))}`;
      tip.replaceChildren(title, table);
      if (rows.length > 14) tip.append(`and ${rows.length - 14} more`);
      const cross = svg.querySelector("path").cloneNode(false);
      const [, , bottom, top] = svg.dataset.y.split(" ");
      cross.setAttribute("d", `M${x},${top}V${bottom}`);
      cross.setAttribute("class", "cross");
      svg.append(cross);
      const at = pixel(svg, x, 0);
      place(at.x, clientY ?? pixel(svg, x, 110).y);
    };
    const nearest = (values, x) => values.reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a), values[0]);
    const showDot = (svg, group) => {
      hide();
      tip.textContent = group.dataset.tip;
      const [x, y] = group.dataset.at.split(" ").map(Number);
      const at = pixel(svg, x, y);
      place(at.x, at.y);
    };

    document.querySelectorAll(".plot").forEach((plot) => {
      const svg = plot.querySelector("svg"), dots = svg.classList.contains("dots");
      let current = -1;
      const steps = () => (dots ? [...svg.querySelectorAll("g.s")].filter(visible) : places(svg));
      const show = (step, y) => (dots ? showDot(svg, step) : showLine(svg, step, y));
      plot.addEventListener("pointermove", (event) => {
        if (dots) {
          const key = event.target.closest(".s")?.dataset.m;
          const group = key && svg.querySelector(`g.s[data-m="${key}"]`);
          if (group) showDot(svg, group); else hide();
          return;
        }
        const values = places(svg);
        if (!values.length) return;
        const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
        current = values.indexOf(nearest(values, x));
        show(values[current], event.clientY);
      });
      plot.addEventListener("pointerleave", hide);
      plot.addEventListener("blur", hide);
      plot.addEventListener("keydown", (event) => {
        const all = steps();
        const to = { ArrowRight: current + 1, ArrowLeft: current < 0 ? all.length - 1 : current - 1, Home: 0, End: all.length - 1 }[event.key];
        if (event.key === "Escape") hide();
        if (to === undefined || !all.length) return;
        event.preventDefault();
        current = Math.max(0, Math.min(to, all.length - 1));
        show(all[current]);
      });
    });
    addEventListener("scroll", hide, { passive: true });
  }

  // The section in view is marked in the list of sections.
  function sections() {
    const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
    const parts = [...links.keys()].map((id) => document.getElementById(id));
    const mark = () => {
      const now = parts.filter((part) => part.getBoundingClientRect().top < innerHeight * 0.35).pop() ?? parts[0];
      links.forEach((link, id) => (id === now.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    };
    addEventListener("scroll", mark, { passive: true });
    mark();
  }
})();
