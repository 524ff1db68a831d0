// Plots as SVG, redrawn at the size that they have. Curves differ by dashes as well as by colour.

const DASHES = ["none", "7 3", "2 3", "9 3 2 3", "14 4", "4 2 1 2", "1 3"];
const HEIGHT = 190;
const EDGE = { left: 56, right: 10, top: 8, bottom: 22 };

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const line = (kind, points) => draw("path", { class: kind, d: points });
const label = (x, y, anchor, text, kind = "") => draw("text", { x, y, "text-anchor": anchor, class: kind }, text);

/** A piece of a curve, or a patch of an area, for a legend. */
function swatch(kind, dash) {
  const mark = dash === undefined
    ? draw("rect", { class: kind, width: 12, height: 10 })
    : draw("path", { class: kind, "stroke-dasharray": dash, d: "M1 5H25" });
  return draw("svg", { class: "swatch", width: dash === undefined ? 14 : 26, height: 10, "aria-hidden": "true" }, mark);
}

/** From zero to a round number. */
function linearScale(most, showAny) {
  const show = tick(showAny);
  const raw = Math.max(most, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const steps = Math.max(1, Math.ceil(most / step - 1e-9));
  const ticks = Array.from({ length: steps + 1 }, (_, index) => [index / steps, show(index * step)]);
  return { place: (value) => value / (steps * step), ticks };
}

/** Powers of ten; with few of them also the steps between. */
function logScale(values, showAny) {
  const show = tick(showAny);
  const seen = values.some((value) => value > 0) ? values.filter((value) => value > 0) : [1e3, 1e6];
  const low = Math.floor(Math.log10(Math.min(...seen)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...seen))));
  const decades = high - low;
  const place = (value) => Math.min(1, Math.max(0, (Math.log10(Math.max(value, 1e-9)) - low) / decades));
  const steps = decades === 1 ? [1, 2, 5] : decades === 2 ? [1, 3] : [1];
  const ticks = [];
  for (let power = low; power <= high; power += 1) {
    for (const step of power === high ? [1] : steps) ticks.push([place(step * 10 ** power), show(step * 10 ** power)]);
  }
  return { place, ticks };
}

const WINDOWS = [60, 120, 300, 600];

/** A plot over the last minutes. `update` takes points with `unix_ms` and `{title, series, scale, show, none, isStacked}`. */
function timePlot(host, legend) {
  // The cursor is the time of a point.
  let [points, what, cursor, drawn] = [[], null, null, 0];
  const pointed = () => points.findIndex((point) => point.unix_ms === cursor);

  function redraw() {
    const width = host.clientWidth;
    if (!what || width < 50) return;
    drawn = width;
    const edge = { ...EDGE, right: what.isStacked ? 56 : EDGE.right };
    const end = points.length ? points.at(-1).unix_ms : Date.now();
    const seconds = points.length ? (end - points[0].unix_ms) / 1000 : 0;
    const window = WINDOWS.find((length) => length >= seconds) || WINDOWS.at(-1);
    const x = (unixMs) => width - edge.right - ((end - unixMs) / 1000 / window) * (width - edge.left - edge.right);
    const y = (share) => HEIGHT - edge.bottom - share * (HEIGHT - edge.top - edge.bottom);
    const svg = draw("svg", { role: "img", height: HEIGHT, "aria-label": describe(window) });
    const scale = what.scale;
    for (const [at, text] of scale.ticks) {
      svg.append(line("grid", `M${edge.left} ${Math.round(y(at)) + 0.5}H${width - edge.right}`));
      svg.append(label(edge.left - 7, y(at) + 4, "end", text));
    }
    const step = window <= 120 ? 30 : window <= 300 ? 60 : 120;
    const room = (width - edge.left - edge.right) / (window / step);
    const every = room < 46 ? step * 2 : step;
    for (let at = Math.ceil((end / 1000 - window) / every) * every; at <= end / 1000; at += every) {
      const across = x(at * 1000);
      svg.append(line("grid", `M${Math.round(across) + 0.5} ${edge.top}V${HEIGHT - edge.bottom}`));
      const text = every < 60 ? clock(at * 1000) : MINUTE.format(at * 1000);
      if (across > edge.left + 14 && across < width - 16) svg.append(label(across, HEIGHT - 6, "middle", text));
    }
    if (!what.series.some(({ values }) => values.some(isNumber))) {
      svg.append(label((edge.left + width - edge.right) / 2, HEIGHT / 2, "middle", what.none, "over"));
    }
    (what.isStacked ? areas : curves)(svg, x, (value) => y(scale.place(value)), width);
    if (pointed() >= 0) svg.append(line("cursor", `M${Math.round(x(cursor)) + 0.5} ${edge.top}V${HEIGHT - edge.bottom}`));
    host.replaceChildren(svg);
    writeLegend();
    host.onpointermove = (event) => {
      const at = event.clientX - host.getBoundingClientRect().left;
      const distances = points.map((point) => Math.abs(x(point.unix_ms) - at));
      cursor = points.length ? points[distances.indexOf(Math.min(...distances))].unix_ms : null;
      redraw();
    };
  }

  /** Stretches of points without a gap in time or a missing value. */
  function stretches(values) {
    const found = [];
    let last = null;
    points.forEach((point, index) => {
      const isThere = isNumber(values[index]);
      const follows = last !== null && point.unix_ms - points[last].unix_ms < 2.5 * point.seconds * 1000;
      if (isThere && follows) found.at(-1).push(index);
      else if (isThere) found.push([index]);
      last = isThere ? index : null;
    });
    return found;
  }

  function curves(svg, x, y) {
    what.series.forEach(({ values }, number) => {
      for (const stretch of stretches(values)) {
        const path = stretch.map((index) => `${x(points[index].unix_ms).toFixed(1)} ${y(values[index]).toFixed(1)}`);
        const [first] = stretch;
        svg.append(stretch.length > 1
          ? draw("path", { class: `s${number}`, "stroke-dasharray": DASHES[number], d: `M${path.join("L")}` })
          : draw("circle", { class: `f${number}`, cx: x(points[first].unix_ms), cy: y(values[first]), r: 3 }));
      }
    });
  }

  function areas(svg, x, y, width) {
    const below = points.map(() => 0);
    what.series.forEach(({ name, values }, number) => {
      const above = below.map((base, index) => base + (values[index] || 0));
      for (const stretch of stretches(values)) {
        const at = (index, heights) => `${x(points[index].unix_ms).toFixed(1)} ${y(heights[index]).toFixed(1)}`;
        const top = stretch.map((index) => at(index, above));
        const bottom = [...stretch].reverse().map((index) => at(index, below));
        // What a point tells began an interval before it.
        const [first] = stretch;
        const begin = x(points[first].unix_ms - points[first].seconds * 1000).toFixed(1);
        const d = `M${begin} ${y(above[first]).toFixed(1)}L${top.join("L")}L${bottom.join("L")}H${begin}Z`;
        svg.append(draw("path", { class: `f${number}`, d }));
      }
      const last = points.length - 1;
      if (last >= 0 && y(below[last]) - y(above[last]) >= 11) {
        svg.append(label(width - 50, (y(below[last]) + y(above[last])) / 2 + 4, "start", name, "strong"));
      }
      above.forEach((height, index) => { below[index] = height; });
    });
  }

  function describe(window) {
    const all = what.series.map(({ name, values }) => {
      const seen = values.filter(isNumber);
      return seen.length ? `${name} ${what.show(seen.at(-1))}, highest ${what.show(Math.max(...seen))}` : `${name}: none`;
    });
    return `${what.title}, last ${span(window)}. ${all.join("; ")}.`;
  }

  function writeLegend() {
    const at = pointed() < 0 ? points.length - 1 : pointed();
    if (legend.childElementCount !== what.series.length + 1) {
      const items = what.series.map(({ name }, number) => {
        const mark = what.isStacked ? swatch(`f${number}`) : swatch(`s${number}`, DASHES[number]);
        return make("li", {}, mark, `${name} `, make("b"));
      });
      legend.replaceChildren(...items, make("li", { class: "soft" }));
    }
    what.series.forEach(({ values }, number) => {
      write(legend.children[number].lastChild, what.show(values[at]));
    });
    write(legend.lastChild, points[at] ? (pointed() < 0 ? "now" : `at ${clock(cursor)}`) : "");
  }

  host.addEventListener("pointerleave", () => { cursor = null; redraw(); });
  new ResizeObserver(() => { if (host.clientWidth !== drawn) redraw(); }).observe(host);
  return (newPoints, newWhat) => {
    if (what && what.series.length !== newWhat.series.length) legend.replaceChildren();
    [points, what] = [newPoints, newWhat];
    redraw();
  };
}

/** A few values over named places, each written beside its point. */
function pointPlot(host, title, values, show) {
  const width = host.clientWidth;
  if (width < 50) return;
  const [low, high] = [Math.min(...values.map((it) => it[1])), Math.max(...values.map((it) => it[1]))];
  const margin = Math.max(0.02, (high - low) * 0.3);
  const [bottom, top] = [Math.max(0, low - margin), Math.min(1, high + margin)];
  const x = (index) => 44 + (index / (values.length - 1)) * (width - 88);
  const y = (value) => 104 - ((value - bottom) / Math.max(top - bottom, 0.01)) * 72;
  const svg = draw("svg", { role: "img", height: 130, "aria-label": title });
  const at = values.map(([, value], index) => `${x(index).toFixed(1)} ${y(value).toFixed(1)}`);
  svg.append(line("grid", `M10 112.5H${width - 10}`), line("s0", `M${at.join("L")}`));
  values.forEach(([name, value], index) => {
    svg.append(draw("circle", { class: "f0", cx: x(index), cy: y(value), r: 4.5 }));
    svg.append(label(x(index), y(value) - 10, "middle", show(value), "strong"), label(x(index), 127, "middle", name));
  });
  host.replaceChildren(svg);
}

/** Parts of a whole beside each other. */
function partsBar(host, title, parts, whole) {
  const svg = draw("svg", { role: "img", height: 34, "aria-label": title });
  const part = (kind, from, wide) => draw("rect", { class: kind, x: `${from}%`, y: 5, width: `${wide}%`, height: 22 });
  let from = 0;
  parts.forEach(([, size], number) => {
    const wide = Math.min(Math.max((size / whole) * 100, 0), 100 - from);
    svg.append(part(`f${number}`, from, wide));
    from += wide;
  });
  svg.append(part("frame", 0, 100));
  if ((100 - from) * host.clientWidth > 6000) svg.append(label("99%", 20, "end", "free"));
  host.replaceChildren(svg);
}

/** p50, p99 and p99.9 of one row on an axis that all rows share. */
function rangeMark(width, scale, [, , p50, p99, p999]) {
  const x = (value) => 6 + scale.place(value) * (width - 12);
  const svg = draw("svg", { width, height: 22, "aria-hidden": "true" });
  for (const [at] of scale.ticks) svg.append(line("grid", `M${Math.round(6 + at * (width - 12)) + 0.5} 0V22`));
  svg.append(line("s0", `M${x(p50)} 11H${x(p999)}`), line("s0", `M${x(p999)} 6V16`));
  svg.append(draw("rect", { class: "f0", x: x(p99) - 4, y: 7, width: 8, height: 8 }));
  svg.append(draw("circle", { class: "f0", cx: x(p50), cy: 11, r: 4.5 }));
  return svg;
}

function rangeAxis(width, scale) {
  const svg = draw("svg", { width, height: 14, "aria-hidden": "true" });
  scale.ticks.forEach(([at, text], index) => {
    const anchor = index === 0 ? "start" : index === scale.ticks.length - 1 ? "end" : "middle";
    svg.append(label(6 + at * (width - 12), 11, anchor, text));
  });
  return svg;
}

