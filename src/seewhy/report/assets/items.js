// The index: search, sort and paging over window.SEEWHY. Text goes in by textContent alone, never as markup.
(function () {
  "use strict";
  var PER_PAGE = 48;
  var NAME = 0, TITLE = 1, TEXT = 2, IMAGE = 3, ACTUAL = 4, PREDICTED = 5, WORD = 10, WORD_VALUE = 11;
  var KEY = { target: 6, prediction: 7, error: 8, value: 9 };
  var data = window.SEEWHY;
  var byId = function (id) { return document.getElementById(id); };
  var cards = byId("cards"), search = byId("search"), sort = byId("sort");
  var page = 0, found = [];

  var folded = data.items.map(function (item) {
    return [item[TITLE], item[TEXT], item[ACTUAL], item[PREDICTED], item[WORD]].join("\n").normalize("NFKC").toLowerCase();
  });

  function element(name, className, text) {
    var made = document.createElement(name);
    if (className) { made.className = className; }
    if (text !== undefined) { made.textContent = text; }
    return made;
  }

  function outside(name, className, text) {
    var made = element(name, className, text);
    made.dir = "auto";
    if (data.lang) { made.lang = data.lang; }
    return made;
  }

  function card(item) {
    var line = element("li"), link = element("a");
    link.href = "items/" + item[NAME] + ".html";
    if (item[IMAGE]) {
      var image = element("img");
      image.loading = "lazy";
      image.decoding = "async";
      image.alt = item[TEXT] || "No description";
      image.src = "thumbs/" + item[NAME] + ".jpg";
      link.append(image);
    } else if (data.images) {
      link.append(element("span", "noimage", "no picture"));
    }
    link.append(outside("span", "card-title", item[TITLE]));
    if (!data.images) { link.append(outside("span", "card-text", item[TEXT])); }
    var facts = element("span", "card-facts");
    [["actual ", item[ACTUAL], ""], ["predicted ", item[PREDICTED], ""], ["", item[WORD], item[WORD_VALUE]]].forEach(function (fact) {
      if (!fact[1]) { return; }
      var line = element("span", "", fact[0]);
      line.append(element("bdi", "", fact[1]), " ", element("bdi", "", fact[2]));
      facts.append(line, " ");
    });
    link.append(facts);
    line.append(link);
    return line;
  }

  function compare(key, direction) {
    return function (a, b) {
      var x = data.items[a][key], y = data.items[b][key];
      if (x === y) { return a - b; }
      if (x === null) { return 1; }
      if (y === null) { return -1; }
      return (x < y ? -1 : 1) * direction;
    };
  }

  function update() {
    var words = search.value.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean);
    var order = sort.value.split(":");
    found = [];
    folded.forEach(function (text, at) {
      if (words.every(function (word) { return text.includes(word); })) { found.push(at); }
    });
    found.sort(compare(KEY[order[0]], Number(order[1])));
    page = 0;
    show();
  }

  function show() {
    var pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    cards.replaceChildren.apply(cards, found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(function (at) {
      return card(data.items[at]);
    }));
    byId("found").textContent = found.length.toLocaleString("en") + " of " + data.items.length.toLocaleString("en") + " found";
    byId("where").textContent = "Page " + (page + 1) + " of " + pages;
    byId("back").disabled = page === 0;
    byId("next").disabled = page + 1 >= pages;
    byId("pager").hidden = pages === 1;
  }

  function turn(step) {
    page += step;
    show();
    cards.scrollIntoView({ block: "start" });
  }

  function fromAddress() {
    var match = /[#&]q=([^&]*)/.exec(window.location.hash);
    if (match) {
      try { search.value = decodeURIComponent(match[1]); } catch (error) { search.value = ""; }
    }
    update();
  }

  byId("tools").hidden = false;
  search.addEventListener("input", update);
  sort.addEventListener("change", update);
  byId("back").addEventListener("click", function () { turn(-1); });
  byId("next").addEventListener("click", function () { turn(1); });
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
}());
