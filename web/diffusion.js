/* The diffusion page: one step is chosen, and every panel shows it. Reads the JSON in the page, needs no network. */
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("steps").textContent);
  var at = function (id) { return document.getElementById(id); };
  document.documentElement.classList.add("scripted");

  /* The heat colours: lightness rises evenly from near black to pale yellow, through violet and red. */
  var stops = [[10, 6, 26], [46, 22, 92], [110, 26, 118], [178, 34, 96], [226, 74, 42], [246, 150, 40], [252, 232, 150]];
  var table = [];
  for (var i = 0; i < 256; i++) {
    var place = i / 255 * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2), part = place - low;
    table.push(stops[low].map(function (c, k) { return Math.round(c + (stops[low + 1][k] - c) * part); }));
  }

  var pictures = {};
  function picture(address, done) {
    var known = pictures[address];
    if (known && known.complete && known.naturalWidth) { done(known); return; }
    var image = known || new Image();
    image.addEventListener("load", function () { done(image); }, { once: true });
    if (!known) { pictures[address] = image; image.src = address; }
  }
  data.steps.forEach(function (s) { picture(s.clean, function () {}); picture(s.noisy, function () {}); });

  function bytes(map) {
    if (!map.b) { map.b = Uint8Array.from(atob(map.d), function (c) { return c.charCodeAt(0); }); }
    return map.b;
  }

  /* The map, enlarged bilinearly with samples at cell centres, in colours. */
  function layer(map, size) {
    var canvas = document.createElement("canvas"); canvas.width = canvas.height = size;
    var context = canvas.getContext("2d"), image = context.createImageData(size, size), b = bytes(map);
    function ends(target, from) {
      var p = Math.max((target + 0.5) * from / size - 0.5, 0), l = Math.min(Math.floor(p), from - 1);
      return [l, Math.min(l + 1, from - 1), p - l];
    }
    var xs = []; for (var x = 0; x < size; x++) { xs.push(ends(x, map.w)); }
    for (var y = 0; y < size; y++) {
      var v = ends(y, map.h);
      for (x = 0; x < size; x++) {
        var u = xs[x];
        var top = b[v[0] * map.w + u[0]] * (1 - u[2]) + b[v[0] * map.w + u[1]] * u[2];
        var bottom = b[v[1] * map.w + u[0]] * (1 - u[2]) + b[v[1] * map.w + u[1]] * u[2];
        var colour = table[Math.round(top * (1 - v[2]) + bottom * v[2])], o = 4 * (y * size + x);
        image.data[o] = colour[0]; image.data[o + 1] = colour[1]; image.data[o + 2] = colour[2]; image.data[o + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function draw(canvas, address, map) {
    var stamp = canvas.stamp = (canvas.stamp || 0) + 1;
    picture(address, function (image) {
      if (canvas.stamp !== stamp) { return; }
      var context = canvas.getContext("2d"), size = canvas.width;
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 1;
      context.drawImage(image, 0, 0, size, size);
      if (map && map.w) {
        context.globalAlpha = Number(at("strength").value) / 100;
        context.drawImage(layer(map, size), 0, 0);
      } else if (map) {
        context.globalAlpha = 0.75; context.fillStyle = "#8d9098"; context.fillRect(0, 0, size, size);
      }
    });
  }

  var chosen = { step: 0 };
  var measured = Array.from(document.querySelectorAll("[data-measured]"));
  function value(id) { var s = at(id); return s ? Number(s.value) : 0; }
  function tile(id, address, map, reading, trust) {
    var figure = document.querySelector('[data-tile="' + id + '"]');
    if (!figure) { return; }
    draw(figure.querySelector("canvas"), address, map);
    figure.querySelector(".reading").textContent = reading || "";
    figure.querySelector(".trusted").textContent = trust || "";
  }
  function percent(v) { return Math.round(100 * v) + " %"; }

  function show() {
    var n = chosen.step, s = data.steps[n], word = value("word"), layerAt = value("layer"), block = value("block");
    at("step").value = n;
    at("where").textContent = "step " + (n + 1) + " of " + data.steps.length + ", t = " + s.t + ", " + s.stage + ", denoised " + percent(s.level);
    tile("clean", s.clean);
    tile("noisy", s.noisy);
    tile("rise", s.clean, s.rise || { w: 0 }, s.rise ? "reliability " + s.reliability.toFixed(2) + ", identity " + s.identity.toFixed(2) + ", " + s.masks + " masks" : "", data.trust.rise);
    tile("cam", s.clean, block ? s.blocks[block - 1] : s.cam, block ? data.blocks[block - 1] : "", block ? "" : data.trust.cam);
    if (data.words.length) {
      var map = layerAt ? s.layers[layerAt - 1][word] : s.words[word];
      tile("attention", s.clean, map, "“" + data.words[word] + "”" + (layerAt ? ", " + data.layers[layerAt - 1] : ""), layerAt ? "" : data.trust.words[word]);
      words.forEach(function (w, k) {
        draw(w.querySelector("canvas"), s.clean, layerAt ? s.layers[layerAt - 1][k] : s.words[k]);
        w.setAttribute("aria-pressed", String(k === word));
      });
    }
    tile("recovery", s.clean, s.recovery, percent(s.level) + " on average");
    document.querySelectorAll(".film li").forEach(function (li, k) {
      if (k === n) { li.setAttribute("aria-current", "step"); } else { li.removeAttribute("aria-current"); }
    });
    /* Of the steps where deletion and insertion were played, the nearest. */
    var nearest = measured.reduce(function (best, d) {
      return !best || Math.abs(d.dataset.measured - n) < Math.abs(best.dataset.measured - n) ? d : best;
    }, null);
    measured.forEach(function (d) { d.hidden = d !== nearest; });
    var x = 44 + (520 - 56) * n / Math.max(data.steps.length - 1, 1);
    document.querySelectorAll(".cursor").forEach(function (c) { c.setAttribute("x1", x); c.setAttribute("x2", x); });
  }

  var words = data.words.map(function (text, k) {
    var button = document.createElement("button"); button.type = "button";
    var canvas = document.createElement("canvas"); canvas.width = canvas.height = 128;
    var name = document.createElement("span"); name.textContent = text;
    button.append(canvas, name);
    button.addEventListener("click", function () { at("word").value = k; show(); });
    at("words").append(button);
    return button;
  });
  function go(n) { chosen.step = Math.max(0, Math.min(data.steps.length - 1, n)); show(); }
  at("step").addEventListener("input", function () { go(Number(at("step").value)); });
  ["word", "layer", "block", "strength"].forEach(function (id) { if (at(id)) { at(id).addEventListener("input", show); } });
  document.querySelectorAll(".film li").forEach(function (li, k) { li.addEventListener("click", function () { go(k); }); });
  document.addEventListener("keydown", function (e) {
    if (/^(INPUT|SELECT|BUTTON)$/.test(e.target.tagName)) { return; }
    if (e.key === "ArrowRight") { go(chosen.step + 1); } else if (e.key === "ArrowLeft") { go(chosen.step - 1); }
  });
  var timer = null;
  at("play").addEventListener("click", function () {
    if (timer) { clearInterval(timer); timer = null; at("play").textContent = "Play"; return; }
    at("play").textContent = "Pause";
    timer = setInterval(function () { go((chosen.step + 1) % data.steps.length); }, 400);
  });
  /* A content word says more than an article: begin with the longest. */
  if (data.words.length) {
    at("word").value = data.words.reduce(function (best, w, k) { return w.length > data.words[best].length ? k : best; }, 0);
  }
  go(Math.floor(data.steps.length / 3));
}());
