// What moves on the page. Without scripts everything is there but for this.
const scale = (axis, value) =>
  axis.start + (((axis.log ? Math.log10(value) : value) - axis.low) / (axis.high - axis.low)) * (axis.end - axis.start);
const short = (value) => (value === null ? "not finite" : String(Number(value.toPrecision(5))));

// The point nearest to a step, in points that are sorted by it.
function nearest(points, step) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < step) low = middle + 1; else high = middle;
  }
  return low > 0 && step - points[low - 1][0] <= points[low][0] - step ? points[low - 1] : points[low];
}

// An exponential moving average that begins with the first value, and leaves gaps where they are.
function smooth(points, weight) {
  let mean = 0, seen = 0;
  return points.map(([step, value]) => {
    if (value === null) return [step, null];
    mean = weight * mean + (1 - weight) * value;
    seen = weight * seen + (1 - weight);
    return [step, mean / seen];
  });
}

function path(points, x, y) {
  let pen = "M", pieces = [];
  for (const [step, value] of points) {
    if (value === null) { pen = "M"; continue; }
    pieces.push(`${pen}${scale(x, step).toFixed(1)} ${scale(y, value).toFixed(1)}`);
    pen = "L";
  }
  return pieces.join("");
}

class Chart {
  constructor(figure) {
    const { x, y, curves } = JSON.parse(figure.querySelector("script").textContent);
    Object.assign(this, { x, y, svg: figure.querySelector("svg"), box: figure.querySelector("output") });
    this.cross = figure.querySelector(".cross");
    const lines = this.svg.querySelectorAll("g"), keys = figure.querySelectorAll(".key");
    this.curves = curves.map(([name, points], i) => {
      const curve = { name, raw: points, points, line: lines[i], shown: true, mark: document.createElementNS(this.svg.namespaceURI, "circle") };
      curve.mark.setAttribute("class", `mark c${i % 6}`);
      curve.mark.setAttribute("r", 4);
      this.svg.append(curve.mark);
      keys[i]?.addEventListener("click", () => this.show(curve, keys[i], !curve.shown));
      return curve;
    });
    this.hide();
    this.svg.addEventListener("pointerleave", () => this.hide());
    this.svg.addEventListener("blur", () => this.hide());
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("keydown", (event) => this.walk(event));
  }
  show(curve, key, yes) {
    curve.shown = yes;
    curve.line.style.display = yes ? "" : "none";
    key.setAttribute("aria-pressed", yes);
    this.hide();
  }
  smooth(weight) {
    for (const curve of this.curves) {
      curve.points = weight ? smooth(curve.raw, weight) : curve.raw;
      curve.line.querySelector(".smooth")?.remove();
      curve.line.classList.toggle("faint", weight > 0);
      if (weight) {
        const line = curve.line.querySelector(".curve").cloneNode();
        line.classList.add("smooth");
        line.setAttribute("d", path(curve.points, this.x, this.y));
        curve.line.append(line);
      }
    }
    this.hide();
  }
  visible() { return this.curves.filter((curve) => curve.shown && curve.points.length); }
  hide() {
    this.step = null;
    this.box.style.display = "none";
    for (const end of ["x1", "x2"]) this.cross.setAttribute(end, -9);
    for (const curve of this.curves) curve.mark.setAttribute("cx", -99);
  }
  point(event) {
    const area = this.svg.getBoundingClientRect(), { x } = this;
    const at = ((event.clientX - area.left) / area.width) * this.svg.viewBox.baseVal.width;
    const wish = x.low + ((at - x.start) / (x.end - x.start)) * (x.high - x.low);
    const near = this.visible().map((curve) => nearest(curve.points, wish)[0]);
    if (near.length) this.tell(near.reduce((a, b) => (Math.abs(b - wish) < Math.abs(a - wish) ? b : a)));
  }
  walk(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || !this.visible().length) return;
    event.preventDefault();
    const steps = [...new Set(this.visible().flatMap((curve) => curve.points.map(([step]) => step)))].sort((a, b) => a - b);
    const here = this.step === null ? (way > 0 ? -1 : steps.length) : steps.indexOf(this.step);
    this.tell(steps[Math.min(steps.length - 1, Math.max(0, here + way))]);
  }
  tell(step) {
    this.step = step;
    const x = scale(this.x, step), area = this.svg.getBoundingClientRect();
    for (const end of ["x1", "x2"]) this.cross.setAttribute(end, x);
    for (const curve of this.curves) curve.mark.setAttribute("cx", -99);
    const lines = this.visible().map((curve) => {
      const [where, value] = nearest(curve.points, step);
      if (value !== null) {
        curve.mark.setAttribute("cx", scale(this.x, where));
        curve.mark.setAttribute("cy", scale(this.y, value));
      }
      return `${curve.name} ${short(value)}` + (where === step ? "" : ` (step ${where.toLocaleString("en")})`);
    });
    this.box.textContent = [`step ${step.toLocaleString("en")}`, ...lines].join("\n");
    this.box.style.display = "block";
    const left = (x / this.svg.viewBox.baseVal.width) * area.width, width = this.box.offsetWidth;
    const wish = left > area.width / 2 ? left - width - 10 : left + 10;
    this.box.style.left = `${Math.max(0, Math.min(wish, area.width - width))}px`;
  }
}

const charts = [...document.querySelectorAll("figure")].map((figure) => new Chart(figure));
const slider = document.querySelector("#smoothing input");
if (slider) {
  slider.closest("label").hidden = false;
  slider.addEventListener("input", () => charts.forEach((chart) => chart.smooth(Number(slider.value))));
}
