// What the page does without is added here: the contents follow the reader, tables sort, long ones filter, tables and citations copy.
(() => {
  "use strict";
  const words = document.body.dataset;
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text) element.textContent = text;
    return element;
  };
  const plain = (node) => node.textContent.replace(/\s+/g, " ").trim();

  // Copying. A cell that a spreadsheet would take for a formula becomes text.
  const number = /^[+\-−]?[\d.,\s]+%?$/;
  const guarded = (text) => (/^[=+\-@＝＋－＠|%]/.test(text) && !number.test(text) ? "'" + text : text);
  const write = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", "offscreen");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  const copier = (label, give) => {
    const button = make("button", "tool", label);
    button.type = "button";
    const said = make("span", "said");
    said.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      await write(give());
      said.textContent = words.copied;
      setTimeout(() => { said.textContent = ""; }, 2500);
    });
    return [button, said];
  };
  const separated = (table) =>
    [...table.rows].map((row) => [...row.cells].map((cell) => guarded(plain(cell))).join("\t")).join("\n") + "\n";

  // Sorting. What is hidden or absent stays last; a third press gives the table's own order back.
  const value = (cell) => {
    const text = plain(cell).split(words.thousands).join("").replace(words.decimal, ".").replace("−", "-");
    const found = /^[<>+]?\s*(-?\d+(\.\d+)?)/.exec(text);
    return found ? Number(found[1]) + (text.startsWith("<") ? -1e-9 : text.startsWith(">") ? 1e-9 : 0) : null;
  };
  const sortable = (table, rows) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      const button = make("button", "sort");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const numeric = head.classList.contains("n");
        const key = new Map(rows.map((row) => [row, numeric ? value(row.cells[at]) : plain(row.cells[at])]));
        const compare = (a, b) => {
          const x = key.get(a), y = key.get(b);
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (numeric ? x - y : x.localeCompare(y, document.documentElement.lang, { numeric: true }));
        };
        body.append(...(next ? [...rows].sort(compare) : rows));
      });
    });
  };
  const filter = (rows, groups) => {
    const label = make("label", "filter", words.filter + " ");
    const input = make("input");
    input.type = "search";
    label.append(input);
    const said = make("span", "said");
    said.setAttribute("role", "status");
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLocaleLowerCase();
      let shown = 0;
      rows.forEach((row) => {
        row.hidden = !plain(row).toLocaleLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      });
      groups.forEach((group) => {
        let next = group.nextElementSibling;
        while (next && next.hidden) next = next.nextElementSibling;
        group.hidden = !next || next.classList.contains("group");
      });
      said.textContent = wanted ? words.shown.replace("{shown}", shown).replace("{n}", rows.length) : "";
    });
    return [label, said];
  };

  document.querySelectorAll("table").forEach((table) => {
    const all = [...table.tBodies[0].rows];
    const rows = all.filter((row) => !row.classList.contains("group"));
    const groups = all.filter((row) => row.classList.contains("group"));
    const above = make("div", "tools"), below = make("div", "tools");
    above.append(...filter(rows, groups));
    below.append(...copier(words.copyTable, () => separated(table)));
    if (rows.length >= 15) table.parentElement.before(above);
    let last = table.parentElement;
    while (last.nextElementSibling && last.nextElementSibling.classList.contains("table-note")) last = last.nextElementSibling;
    last.after(below);
    if (rows.length >= 4 && !groups.length && !table.classList.contains("stack")) sortable(table, rows);
  });
  document.querySelectorAll("[data-copies]").forEach((element) => {
    element.after(...copier(words.copy, () => element.textContent.trim()));
  });

  // The contents mark where the reader is.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.getAttribute("href").slice(1), link]));
  if (links.size) {
    const seen = new Set();
    const watch = new IntersectionObserver((entries) => {
      entries.forEach((entry) => (entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id)));
      const here = [...links.keys()].find((id) => seen.has(id));
      if (here) links.forEach((link, id) => (id === here ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    }, { rootMargin: "0px 0px -70% 0px" });
    document.querySelectorAll("main > section").forEach((section) => watch.observe(section));
  }

  // Paper shows what is folded.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((fold) => { fold.open = false; }));
})();
