"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, classes, text) => {
    const made = document.createElement(tag);
    made.className = classes || "";
    made.textContent = text || "";
    return made;
  };

  // One switch for what all charts are counted in.
  const counted = all(".chart[data-axis]");
  const choose = axis => {
    const figures = new Set(counted.map(chart => chart.parentElement));
    for (const figure of figures) {
      const charts = all(".chart[data-axis]", figure);
      const shown = charts.find(chart => chart.dataset.axis === axis) || charts[0];
      for (const chart of charts) chart.classList.toggle("unchosen", chart !== shown);
    }
  };
  for (const radio of all("input[name=axis]")) {
    radio.addEventListener("change", () => choose(radio.value));
    radio.checked = radio.defaultChecked;
  }
  choose("num_steps");

  // Arms are switched in charts and images.
  for (const box of all(".arms input")) {
    box.checked = true;
    box.addEventListener("change", () => {
      for (const part of all(`[data-arm="${CSS.escape(box.value)}"]`)) part.classList.toggle("off", !box.checked);
      for (const told of all(".told")) told.remove();
    });
  }

  // Values at the evaluation point that is pointed at, or reached by the arrow keys.
  for (const chart of all(".chart")) {
    const plot = chart.querySelector(".plot");
    const points = () => all(".point", plot).filter(point => !point.closest(".off"));
    if (!points().length) continue;
    plot.tabIndex = 0;
    let at = null;
    const hide = () => {
      at = null;
      for (const part of all(".told, .pointer", chart)) part.remove();
    };
    const show = step => {
      hide();
      at = step;
      const here = points().filter(point => +point.dataset.step === step);
      if (!here.length) return;
      const place = here.reduce((sum, point) => sum + +point.dataset.place, 0) / here.length;
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of [["x1", place + "%"], ["x2", place + "%"], ["y1", 0], ["y2", plot.getAttribute("height")],
        ["class", "pointer"]]) line.setAttribute(name, value);
      plot.prepend(line);
      const told = make("div", "told");
      told.setAttribute("role", "status");
      told.append(make("p", "", `${step.toLocaleString("en")} steps`));
      for (const point of here) {
        const own = make("p", `own ${point.parentElement.getAttribute("class")}`, point.dataset.told);
        told.append(own);
      }
      chart.append(told);
      const box = plot.getBoundingClientRect(), around = chart.getBoundingClientRect();
      const left = box.left - around.left + box.width * place / 100;
      const beside = left + 14 + told.offsetWidth < around.width ? left + 14 : left - 14 - told.offsetWidth;
      told.style.left = `${Math.max(4, Math.min(beside, around.width - told.offsetWidth - 4))}px`;
      told.style.top = `${box.top - around.top + 6}px`;
    };
    const steps = () => [...new Set(points().map(point => +point.dataset.step))].sort((a, b) => a - b);
    plot.addEventListener("pointermove", event => {
      const box = plot.getBoundingClientRect();
      const place = 100 * (event.clientX - box.left) / box.width;
      const distance = point => Math.abs(point.dataset.place - place);
      const found = points();
      if (!found.length) return;
      const step = +found.reduce((best, point) => distance(point) < distance(best) ? point : best).dataset.step;
      if (step !== at) show(step);
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", event => {
      const every = steps(), last = every.length - 1, here = every.indexOf(at);
      const next = { ArrowRight: Math.min(here + 1, last), ArrowLeft: Math.max(here - 1, 0), Home: 0, End: last }[event.key];
      if (event.key === "Escape") hide();
      if (next === undefined || last < 0) return;
      event.preventDefault();
      show(every[next]);
    });
  }

  // Columns sort by a press on their heading.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = make("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
        const compared = (first, second) => {
          const [a, b] = [key(first), key(second)];
          if (a === "" || b === "") return (a === "") - (b === "");
          return (up ? 1 : -1) * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
        };
        for (const body of table.tBodies) body.append(...all("tr:not(.group)", body).sort(compared));
      });
    });
  }

  // A slider over evaluation points moves the samples of all arms.
  for (const along of all(".along")) {
    const steps = all(".step", along);
    if (steps.length < 2) continue;
    const label = make("label", "slider", "After "), slider = make("input"), value = make("output");
    slider.type = "range";
    slider.min = 0;
    slider.max = steps.length - 1;
    slider.value = slider.max;
    const move = () => {
      steps.forEach((step, place) => step.classList.toggle("unchosen", place !== +slider.value));
      value.textContent = `${(+steps[slider.value].dataset.step).toLocaleString("en")} steps`;
      slider.setAttribute("aria-valuetext", value.textContent);
    };
    slider.addEventListener("input", move);
    label.append(slider, value);
    along.prepend(label);
    for (const step of steps) step.querySelector("h4").remove();
    move();
  }

  // An image fills the window at a press.
  const dialog = make("dialog"), view = make("div", "view"), words = make("p"), close = make("button", "", "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.append(close, view, words);
  document.body.append(dialog);
  for (const image of all(".images img, .panels img")) {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    const enlarge = () => {
      const large = make("img");
      large.src = image.src;
      large.alt = image.alt;
      view.replaceChildren(large);
      words.textContent = image.alt;
      dialog.showModal();
    };
    image.addEventListener("click", enlarge);
    image.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge();
    });
  }
  dialog.addEventListener("click", event => {
    if (event.target.tagName === "IMG") dialog.close();
  });

  // Seeds are drawn, and judged as `verdict_over_seeds` does: both intervals on one side, or no verdict.
  const values = document.getElementById("seed-values");
  if (values) {
    const comparisons = JSON.parse(values.textContent), box = document.querySelector(".draw"), identical = 1e-9;
    const interval = (numbers, quantile) => {
      const count = numbers.length, mean = numbers.reduce((sum, each) => sum + each, 0) / count;
      const sd = Math.sqrt(numbers.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (count - 1));
      const half = quantile * sd / Math.sqrt(count);
      return { mean, low: mean - half, high: mean + half, known: count > 1 && sd >= identical };
    };
    const side = (each, sign) => {
      const [low, high] = [sign * each.low, sign * each.high].sort((a, b) => a - b);
      return !each.known ? 0 : low > 0 ? 1 : high < 0 ? -1 : 0;
    };
    const judge = (comparison, picked) => {
      const quantile = comparison.quantiles[picked.length] ?? Infinity;
      const logs = picked.map(place => comparison.speed_ups[place]);
      const change = interval(picked.map(place => comparison.changes[place]), quantile);
      const bounded = logs.includes(null), speed = bounded ? null : interval(logs, quantile);
      const sides = [side(change, -1), ...(speed ? [side(speed, 1)] : [])];
      const word = sides.every(each => each === 1) ? "faster" : sides.every(each => each === -1) ? "slower" : "undecided";
      const ends = speed && speed.known ? [Math.exp(speed.low), Math.exp(speed.high)] : null;
      return { word, ratio: speed ? Math.exp(speed.mean) : null, ends };
    };
    const draw = (count, size) => {
      const places = [...Array(count).keys()];
      for (let last = count - 1; last > 0; last--) {
        const other = Math.floor(Math.random() * (last + 1));
        [places[last], places[other]] = [places[other], places[last]];
      }
      return places.slice(0, size).sort((a, b) => a - b);
    };
    const chosen = () => comparisons[box.querySelector("select")?.value ?? 0];
    const output = box.querySelector(".drawn"), history = box.querySelector(".history");
    const tell = (comparison, picked) => {
      const found = judge(comparison, picked), seeds = picked.map(place => comparison.seeds[place]);
      const size = found.ratio === null ? "" : ` ${found.ratio.toFixed(2)}×`;
      const ends = found.ends ? ` (${found.ends.map(end => end.toFixed(2)).join(" to ")})` : "";
      const why = picked.length === 1 ? ": one training per arm decides nothing" : "";
      const lead = make("strong", "", found.word[0].toUpperCase() + found.word.slice(1) + size);
      output.replaceChildren(lead, `${ends}${why}. Seed${picked.length > 1 ? "s" : ""} ${seeds.join(", ")}.`);
      output.dataset.result = JSON.stringify({ seeds, ...found });
      const item = make("li"), pill = make("span", "verdict", `${picked.length}: ${found.word}${size}`);
      pill.dataset.word = found.word;
      item.append(pill);
      history.prepend(item);
      while (history.children.length > 40) history.lastChild.remove();
    };
    for (const button of all("button", box)) {
      const able = () => { button.disabled = +button.value > chosen().seeds.length; };
      button.addEventListener("click", () => tell(chosen(), draw(chosen().seeds.length, +button.value)));
      able();
      box.querySelector("select")?.addEventListener("change", able);
    }
    box.querySelector("select")?.addEventListener("change", () => {
      history.replaceChildren();
      output.textContent = "Nothing drawn yet.";
    });
  }
})();
