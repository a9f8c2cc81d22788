"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const pane = document.getElementById("pane");
  const graph = document.getElementById("graph");
  const details = document.getElementById("details");
  const width = graph.viewBox.baseVal.width, height = graph.viewBox.baseVal.height;
  let zoom = 1;

  function setZoom(to, at = pane.clientHeight / 2) {
    const middle = (pane.scrollTop + at) / zoom;
    zoom = Math.min(3, Math.max(0.05, to));
    graph.setAttribute("width", width * zoom);
    graph.setAttribute("height", height * zoom);
    pane.scrollTop = middle * zoom - at;
  }
  const fit = () => setZoom(Math.min(1, (pane.clientWidth - 4) / width));

  function choose(row, scroll) {
    for (const old of document.querySelectorAll(".chosen, .near")) old.classList.remove("chosen", "near");
    const list = document.createElement("dl");
    for (const [what, value] of facts[row]) {
      list.append(Object.assign(document.createElement("dt"), { textContent: what }));
      list.append(Object.assign(document.createElement("dd"), { textContent: value }));
    }
    details.replaceChildren(list);
    for (const e of graph.querySelectorAll(`[data-a="${row}"], [data-b="${row}"]`)) e.classList.add("near");
    for (const e of document.querySelectorAll(`.node[data-row="${row}"], tr[data-row="${row}"]`)) e.classList.add("chosen");
    if (!scroll) return;
    const box = graph.querySelector(`.node[data-row="${row}"]`).getBoundingClientRect(), frame = pane.getBoundingClientRect();
    pane.scrollBy(box.x + box.width / 2 - frame.x - frame.width / 2, box.y + box.height / 2 - frame.y - frame.height / 2);
  }

  document.addEventListener("click", (event) => {
    const zoomer = event.target.closest("[data-zoom]");
    if (zoomer) return Number(zoomer.dataset.zoom) ? setZoom(zoom * Number(zoomer.dataset.zoom)) : fit();
    const head = event.target.closest(".sortable th");
    if (head) return sort(head);
    const chosen = event.target.closest("[data-row]");
    if (chosen && !(moved && pane.contains(chosen))) {
      const fromGraph = pane.contains(chosen);
      choose(chosen.dataset.row, !fromGraph);
      if (!fromGraph) document.getElementById("drawn").scrollIntoView({ behavior: "smooth" });
    }
  });
  graph.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.dataset.row) choose(event.target.dataset.row, false);
  });

  function sort(head) {
    const at = [...head.parentNode.children].indexOf(head);
    const body = head.closest("table").tBodies[0];
    const up = head.dataset.up !== "yes";
    head.dataset.up = up ? "yes" : "no";
    const value = (row) => row.cells[at].dataset.by ?? row.cells[at].textContent;
    const compare = (a, b) => (head.classList.contains("n") ? value(a) - value(b) : value(a).localeCompare(value(b)));
    body.append(...[...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))));
  }

  pane.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    setZoom(zoom * Math.exp(-event.deltaY / 400), event.clientY - pane.getBoundingClientRect().y);
  }, { passive: false });
  let held = null, moved = false;
  pane.addEventListener("pointerdown", (event) => {
    held = [event.clientX, event.clientY, pane.scrollLeft, pane.scrollTop];
    moved = false;
  });
  window.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [x, y, left, top] = held;
    if (!moved && Math.hypot(event.clientX - x, event.clientY - y) < 5) return;
    moved = true;
    pane.classList.add("held");
    pane.scrollTo(left + x - event.clientX, top + y - event.clientY);
  });
  window.addEventListener("pointerup", () => { held = null; pane.classList.remove("held"); });
  fit();
})();
