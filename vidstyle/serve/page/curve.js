// The loss of an adaptation by step, as a line.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 200;
const HEIGHT = 44;
const EDGE = 2;

/** An element whose `draw(points, steps)` takes `[step, loss]` pairs and how many steps there will be. */
export function lossCurve() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "curve");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const ground = document.createElementNS(SVG, "path");
  ground.setAttribute("class", "ground");
  ground.setAttribute("d", `M0 ${HEIGHT - 1}H${WIDTH}`);
  const line = document.createElementNS(SVG, "path");
  svg.append(ground, line);
  svg.draw = (points, steps) => {
    svg.toggleAttribute("hidden", points.length < 2);
    if (points.length < 2) return;
    const losses = points.map(([, loss]) => loss);
    const most = Math.max(...losses);
    const least = Math.min(...losses);
    const last = Math.max(steps || 0, points.at(-1)[0], 1);
    const x = (step) => ((WIDTH * step) / last).toFixed(1);
    // Losses fall fast and then slowly: by their logarithm the slow part can be seen, too.
    const height = (loss) => Math.log(Math.max(loss, 1e-9));
    const span = height(most) - height(least) || 1;
    const y = (loss) => (EDGE + ((HEIGHT - 3 * EDGE) * (height(most) - height(loss))) / span).toFixed(1);
    line.setAttribute("d", `M${points.map(([step, loss]) => `${x(step)} ${y(loss)}`).join("L")}`);
    svg.setAttribute("aria-label", `Loss: ${losses[0].toPrecision(3)} at first, ${losses.at(-1).toPrecision(3)} now`);
  };
  return svg;
}
