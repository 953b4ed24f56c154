// Curves of the trainings, and what the models cost against what they score.

const trainingState = { curve: "loss" };
const costState = { objective: null };

function drawTraining() {
  const values = (curve) => (trainingState.curve === "loss" ? curve.loss : curve.curves[trainingState.curve] || []);
  const curves = DATA.training.filter((curve) => curve.steps.length && values(curve).length);
  if (!curves.length) return nothing("training-plot", "No training curves are recorded.");
  document.getElementById("training-plot").classList.remove("empty");
  const traces = curves.map((curve, i) => ({ type: "scatter", mode: curve.steps.length === 1 ? "markers" : "lines",
    name: plain(curve.name), x: curve.steps, y: values(curve),
    marker: { color: colour(i), symbol: SHAPES[i % SHAPES.length] },
    // Eight colours and six dashes share no factor pattern: 24 curves differ.
    line: { color: colour(i), width: 2, dash: DASHES[i % DASHES.length] }, hoverinfo: "text",
    hovertext: curve.steps.map((step, k) => plain(curve.name) + "<br>step " + step + ", "
      + plain(trainingState.curve) + " " + values(curve)[k].toFixed(4)) }));
  return draw("training-plot", traces, layoutOf({
    xaxis: { title: { text: "optimizer step" } },
    yaxis: { title: { text: trainingState.curve === "loss" ? "training loss" : plain(trainingState.curve) } },
  }));
}

function trainingControls() {
  const names = [...new Map(DATA.training.flatMap((curve) => Object.keys(curve.curves)).map((name) => [name, true])).keys()];
  if (!names.length) return;
  const choices = [["loss", "loss"], ...names.map((name) => [name, name])];
  chooser(document.getElementById("training-controls"), "Curve", choices, "loss", (value) => {
    trainingState.curve = value;
    guarded("training-plot", drawTraining);
  });
}

function drawCosts() {
  if (costState.objective === null) costState.objective = OBJECTIVES[0];
  const name = costState.objective;
  const paid = ROWS.filter((row) => row.id in DATA.costs && row.scores[name]);
  if (!paid.some((row) => DATA.costs[row.id] > 0)) return nothing("cost-plot", "No training cost is recorded.");
  document.getElementById("cost-plot").classList.remove("empty");
  const mark = (row) => (row.kind === "merge" ? methodStyle(row.method)
    : { color: css("--text"), symbol: KIND_SHAPES[row.kind] });
  const traces = [];
  const groups = [...new Map(paid.map((row) => [row.kind === "merge" ? row.method : row.kind, true])).keys()];
  for (const group of groups) {
    const rows = paid.filter((row) => (row.kind === "merge" ? row.method : row.kind) === group);
    const style = mark(rows[0]);
    traces.push({ type: "scatter", mode: "markers", name: plain(group), x: rows.map((row) => DATA.costs[row.id]),
      y: rows.map((row) => row.scores[name].v), hoverinfo: "text",
      hovertext: rows.map((row) => hoverText(row) + "<br>training FLOPs " + DATA.costs[row.id].toExponential(2)),
      error_y: errorBars(rows.map((row) => row.scores[name])),
      marker: { color: style.color, symbol: style.symbol, size: rows.map((row) => (row.front ? 12 : 8)),
        opacity: rows.map((row) => (row.front ? 1 : 0.4)),
        line: { color: css("--text"), width: rows.map((row) => (row.front ? 1.5 : 0)) } } });
  }
  return draw("cost-plot", traces, layoutOf({
    xaxis: { title: { text: "training FLOPs, with all that the model is made of" }, exponentformat: "e", nticks: 6,
      rangemode: "tozero" },
    yaxis: { title: { text: arrowed(name) } },
  }));
}

function costControls() {
  if (OBJECTIVES.length < 2 || !Object.keys(DATA.costs).length) return;
  chooser(document.getElementById("cost-controls"), "Vertical", OBJECTIVES.map((name) => [name, name]), OBJECTIVES[0],
    (value) => {
      costState.objective = value;
      guarded("cost-plot", drawCosts);
    });
}
