// On a phone, each code cell is folded; without JavaScript all are open.
document.addEventListener("DOMContentLoaded", () => {
  if (!matchMedia("(max-width: 600px)").matches) return;
  for (const input of document.querySelectorAll(".cell > .cell_input")) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Code";
    input.replaceWith(details);
    details.append(summary, input);
  }
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
