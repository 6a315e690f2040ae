// What a page gains with JavaScript: times in the reader's zone, charts to point at. Without it everything can be read.
"use strict";
(() => {
  const form = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "short"});

  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.valueOf())) time.textContent = form.format(at);
    }
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  const known = new WeakMap(); // rows by box: a new width or other colours need no new ones

  async function rowsOf(box) {
    if (!known.has(box)) {
      const answer = await fetch(box.dataset.source, {headers: {accept: "application/json"}});
      if (!answer.ok) return null;
      known.set(box, box.dataset.series.split(".").reduce((value, name) => value?.[name], await answer.json()));
    }
    return known.get(box);
  }

  async function drawSeries(box) {
    const rows = await rowsOf(box);
    if (!rows?.length) return; // the drawn chart stays
    const names = box.dataset.y.split(",");
    const data = [rows.map(row => row[box.dataset.x]), ...names.map(name => rows.map(row => row[name]))];
    const colours = ["--a", "--b", "--good"].map(colour);
    const axis = {stroke: colour("--soft"), grid: {stroke: colour("--line"), width: 1}, ticks: {stroke: colour("--line")}};
    const figure = box.querySelector("figure, p");
    if (figure) figure.hidden = true;
    box.querySelector(".uplot")?.remove();
    new uPlot({
      width: box.clientWidth, height: 220, cursor: {drag: {x: true, y: false}},
      axes: [axis, axis],
      series: [{}, ...names.map((name, i) => ({label: name, stroke: colours[i % 3], width: 2, points: {show: rows.length < 60}}))],
    }, data, box);
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", figure?.querySelector("svg")?.getAttribute("aria-label") ?? "chart");
  }

  function drawAll() {
    for (const box of document.querySelectorAll(".series")) {
      delete box.dataset.ready;
      drawSeries(box).catch(() => {}).finally(() => { box.dataset.ready = ""; });
    }
  }

  localTimes(document);
  drawAll();
  document.addEventListener("htmx:after:swap", () => localTimes(document));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 200); });
  for (const slider of document.querySelectorAll("input[data-sets]")) {
    const field = slider.form.elements[slider.dataset.sets];
    slider.addEventListener("input", () => { field.value = slider.value; });
    field.addEventListener("input", () => { slider.value = field.value; });
  }
})();
