// Start: every part draws on its own, so that one that fails says so in its place and the others still show.

async function guarded(id, work) {
  try {
    await work();
  } catch (error) {
    console.error(error);
    document.getElementById(id).prepend(
      element("p", { class: "js-error", role: "alert" }, "This figure could not be drawn: " + error));
  }
}

function drawAll() {
  return Promise.all([guarded("front-plot", drawFront), guarded("weight-plot", drawWeights),
    guarded("progress-plot", drawProgress), guarded("training-plot", drawTraining),
    guarded("cost-plot", drawCosts)]);
}

guarded("front-controls", frontControls);
guarded("selected", () => {
  selectControls();
  showSelected();
});
guarded("language-table", showLanguages);
guarded("weight-controls", weightControls);
guarded("progress-controls", progressControls);
guarded("training-controls", trainingControls);
guarded("cost-controls", costControls);
for (const table of document.querySelectorAll("table.sortable")) guarded("points", () => sortable(table));
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copy(button.dataset.command);
});
// Colours come from the stylesheet, sizes from the window: draw again when the theme or the layout class changes.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
matchMedia("(max-width: 639px)").addEventListener("change", drawAll);
drawAll().then(() => document.documentElement.setAttribute("data-ready", "true"));
