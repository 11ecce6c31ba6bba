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
