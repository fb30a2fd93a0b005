"use strict";
// A section whose rows lie along a slider shows those beside it, or those in which the searched words stand.
const BESIDE = 2;
const MOST = 50;
for (const section of document.querySelectorAll("section.along")) {
  const rows = [...section.querySelectorAll(".row")];
  const controls = section.querySelector(".controls");
  if (!controls) continue;
  const slider = controls.querySelector("input[type=range]");
  const search = controls.querySelector("input[type=search]");
  const told = controls.querySelector("output");
  const marks = section.querySelectorAll("svg .mark");
  const content = (row) => [...row.querySelectorAll("b, .start, pre, dd")].map((part) => part.textContent).join("\n");
  const texts = rows.map((row) => content(row).toLowerCase());
  const show = () => {
    const words = search.value.trim().toLowerCase();
    const at = Number(slider.value);
    const found = words ? [...rows.keys()].filter((n) => texts[n].includes(words)) : [];
    const kept = new Set(found.slice(0, MOST));
    const first = Math.max(0, Math.min(at - BESIDE, rows.length - 2 * BESIDE - 1));
    rows.forEach((row, n) => {
      row.hidden = words ? !kept.has(n) : n < first || n > first + 2 * BESIDE;
      row.classList.toggle("at", !words && n === at);
    });
    for (const mark of marks) {
      mark.classList.toggle("set", !words);
      mark.setAttribute("transform", `translate(${rows[at].dataset.x} 0)`);
    }
    const more = found.length > MOST ? `, the first ${MOST} are shown` : "";
    told.textContent = words ? `${found.length} of ${rows.length} rows${more}` : rows[at].dataset.label;
  };
  slider.addEventListener("input", () => { search.value = ""; show(); });
  search.addEventListener("input", show);
  controls.hidden = false;
  show();
}
