// On a phone, each code cell is folded, and a wide table is turned: its columns become rows. If a table is still too wide,
// its headings stand upright; a folded table is measured when it is opened.
document.addEventListener("DOMContentLoaded", () => {
  if (!matchMedia("(max-width: 600px)").matches) return;
  for (const input of document.querySelectorAll(".cell > .cell_input")) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Code";
    input.replaceWith(details);
    details.append(summary, input);
  }
  for (const table of document.querySelectorAll(".bd-article table:not(:has([rowspan], [colspan]))")) {
    const rows = [...table.rows].map((row) => [...row.cells]);
    const width = rows[0]?.length ?? 0;
    if (width < 5 || rows.length >= width || rows.some((cells) => cells.length !== width)) continue;
    const [head, body] = ["thead", "tbody"].map((tag) => document.createElement(tag));
    rows[0].forEach((_, column) => {
      const row = document.createElement("tr");
      row.append(...rows.map((cells) => cells[column]));
      (column ? body : head).append(row);
    });
    table.replaceChildren(...(table.caption ? [table.caption] : []), head, body);
  }
  const observer = new ResizeObserver((boxes) => {
    for (const { target } of boxes)
      if (target.scrollWidth > target.clientWidth) target.querySelector("table").classList.add("upright");
  });
  for (const table of document.querySelectorAll(".bd-article table")) observer.observe(table.parentElement);
});

// A page opened from a folder cannot fetch others, so the search takes its excerpts from texts.js: see offline.py.
if (location.protocol === "file:" && location.pathname.endsWith("/search.html")) {
  const loaded = new Promise((resolve) => {
    document.head.append(Object.assign(document.createElement("script"), { src: "_static/texts.js", onload: resolve }));
  });
  window.fetch = async (url) => {
    await loaded;
    return new Response(`<div role="main">${TEXTS[url.replace(/^\.\//, "").split(/[?#]/)[0]]}</div>`);
  };
}
