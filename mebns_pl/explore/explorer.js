// The explorer's lists and details. Names are text: they enter the page by textContent alone, figures by escaped().
'use strict';

(() => {
  const page = JSON.parse(document.getElementById('data').textContent);
  const byId = (id) => document.getElementById(id);
  const MORE = 100;
  const state = { run: 0, list: 'pairs', query: '', sort: null, shown: MORE, opened: null };

  // --- What the page holds ---

  const unpack = async ({ kind, data }) => {
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new globalThis[kind](await new Response(stream).arrayBuffer());
  };
  const ARRAYS = ['student', 'teacher', 'hard', 'counts', 'weights'];
  let unpacked = null; // when something is first opened
  const arrays = () => (unpacked ??= Promise.all(page.runs.map(async (run) => {
    const found = await Promise.all(ARRAYS.map((name) => run[name] && unpack(run[name])));
    return Object.fromEntries(ARRAYS.map((name, place) => [name, found[place]]));
  })));
  const numPairs = page.ends.length;
  const pairName = (pair) => page.ends[pair].map((end) => page.names[end]).join(' \u2013 ');
  const typesOf = (pair) => page.ends[pair].map((end) => page.types[end]).sort().join(' \u2013 ');
  const pairsOf = (test) => {
    const crossings = page.runs[state.run].pairs.crossings;
    return [...Array(numPairs).keys()].filter(test).sort((a, b) => crossings[b] - crossings[a]);
  };
  // A pair's value in each kept epoch; counts have three rows an epoch
  const series = (run, values, pair, row = 0, rows = 1) =>
    run.epochs.map((_, time) => values[(time * rows + row) * numPairs + pair]);

  // --- Elements ---

  const escaped = (text) => text.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);
  const element = (tag, { text, title, name, click, color } = {}, ...children) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (title) made.title = title;
    if (name) made.className = name;
    if (click) made.addEventListener('click', click);
    if (color) made.style.color = color;
    made.append(...children);
    return made;
  };
  const number = (value) => {
    if (value === null || value === undefined) return '';
    return Number.isInteger(value) ? value.toLocaleString('en') : value.toFixed(2);
  };

  // --- Lists: columns are {title, note, value of a row, whether it is text} ---

  const ofRun = (name, title, note) => ({ title, note, value: (pair) => page.runs[state.run].pairs[name][pair] });
  const LISTS = {
    pairs: {
      rows: () => [...Array(numPairs).keys()],
      columns: () => [
        { title: 'pair', text: true, value: pairName },
        ...page.runs.map((run) => ({
          title: 'crossings', run, note: 'how often it entered or left the hard set', value: (pair) => run.pairs.crossings[pair],
        })),
        ofRun('epochs_hard', 'epochs hard', 'kept epochs in the hard set'),
        ofRun('student', 'student', 'its last logit'),
        ...(page.runs[state.run].teacher ? [ofRun('teacher', 'teacher', 'its last logit')] : []),
        ofRun('drawn', 'drawn', 'steps in which it was a candidate'),
        ...(page.runs[state.run].teacher ? [ofRun('dropped', 'dropped', 'steps in which the filter dropped it')] : []),
        ofRun('picked', 'picked', 'steps in which the student learned from it'),
        ofRun('weight', 'weight', 'mean weight where it was picked; 1 on average'),
        { title: 'common neighbours', note: 'in the training graph', value: (pair) => page.numCommon[pair] },
        { title: 'held-out edge', note: 'analysis only: training never sees it', text: true, value: (pair) => page.heldOut[pair] },
      ],
      open: openPair,
    },
    nodes: {
      rows: () => page.runs[state.run].nodes,
      columns: () => columnsOfRows(['node', ...(page.types ? ['type'] : []), 'degree', 'pairs', 'crossings', 'per_pair'], 1 + !!page.types),
      open: (row) => openNode(row[0]),
    },
    types: {
      rows: () => page.runs[state.run].types,
      columns: () => columnsOfRows(['types', 'pairs', 'crossings', 'per_pair'], 1),
      open: (row) => openTypes(row[0]),
    },
  };
  function columnsOfRows(titles, texts) {
    return titles.map((title, place) => ({
      title: title === 'per_pair' ? 'crossings a pair' : title, text: place < texts, value: (row) => row[place],
    }));
  }

  function listed() {
    const { rows, columns } = LISTS[state.list];
    const all = columns();
    const query = state.query.toLocaleLowerCase();
    const found = query ? rows().filter((row) => String(all[0].value(row)).toLocaleLowerCase().includes(query)) : rows();
    const sort = state.sort ?? { column: state.list === 'pairs' ? 1 + state.run : all.length - 1, down: true };
    const column = all[Math.min(sort.column, all.length - 1)];
    const keys = new Map(found.map((row) => [row, column.value(row)]));
    const compare = (a, b) => {
      const [one, two] = [keys.get(a), keys.get(b)];
      if (one === null || two === null) return (one === null) - (two === null); // what is missing goes last
      return (sort.down ? -1 : 1) * (column.text ? one.localeCompare(two) : one - two);
    };
    return { columns: all, rows: [...found].sort(compare), sort };
  }

  function show() {
    const { columns, rows, sort } = listed();
    for (const button of document.querySelectorAll('#runs button')) button.ariaPressed = Number(button.value) === state.run;
    for (const button of document.querySelectorAll('#lists button')) button.ariaPressed = button.value === state.list;
    byId('count').textContent = `${rows.length.toLocaleString('en')} ${state.list}`;
    byId('head').replaceChildren(...columns.map((column, place) => {
      const mark = place === sort.column ? (sort.down ? ' \u25be' : ' \u25b4') : '';
      const label = element('button', {
        text: column.title + mark, title: column.note,
        click: () => {
          state.sort = { column: place, down: place === sort.column ? !sort.down : !column.text };
          show();
        },
      });
      const run = column.run && page.runs.length > 1 ? [element('span', { text: column.run.name, name: 'of-run', color: column.run.color })] : [];
      return element('th', { name: column.text ? '' : 'number' }, label, ...run);
    }));
    byId('rows').replaceChildren(...rows.slice(0, state.shown).map((row) => {
      const open = () => LISTS[state.list].open(row);
      const cells = columns.map((column, place) => {
        const value = column.value(row);
        if (!place) { // a pair's ends have a line each
          const text = state.list === 'pairs' ? value.replace(' \u2013 ', ' \u2013\n') : value;
          return element('td', {}, element('button', { text, name: 'open' }));
        }
        return element('td', { text: column.text ? value : number(value), name: column.text ? '' : 'number' });
      });
      return element('tr', { click: open }, ...cells);
    }));
    byId('more').hidden = rows.length <= state.shown;
  }

  // --- Details ---

  const heading = (text) => element('h3', { text });
  const facts = (pairs) => element('dl', {}, ...pairs.flatMap(([name, value]) => [element('dt', { text: name }), element('dd', { text: value })]));
  const STYLE = {
    template: 'plotly_white', height: 270, margin: { l: 46, r: 12, t: 28, b: 38 }, font: { family: 'system-ui, sans-serif', size: 12 },
    legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0 }, barmode: 'group', hovermode: 'x unified',
  };
  function draw(place, traces, title) {
    const run = page.runs[state.run];
    const marks = run.warmup > run.epochs[0] && run.warmup <= run.epochs.at(-1)
      ? [{ type: 'line', yref: 'paper', x0: run.warmup - 0.5, x1: run.warmup - 0.5, y0: 0, y1: 1, line: { dash: 'dot', color: run.color, width: 1.5 } }] : [];
    const axis = { gridcolor: '#ebebeb', zerolinecolor: '#d0d0d0' };
    Plotly.newPlot(place, traces, { ...STYLE, shapes: marks, xaxis: { ...axis, title: { text: 'epoch' } }, yaxis: { ...axis, title: { text: title } } },
      { displayModeBar: false, responsive: true });
  }
  // Scores by student and teacher, a line each and run: `values(run, array)` gives one an epoch
  const scores = (found, values, hard) => page.runs.flatMap((run, place) => {
    const { student, teacher } = found[place];
    const name = escaped(run.name);
    const line = { color: run.color, width: place === state.run ? 3 : 1.5 };
    const symbols = hard ? hard(run, found[place]).map((inside) => run.symbol + (inside ? '' : '-open')) : run.symbol;
    const lines = [{ x: run.epochs, y: values(run, student), name: `${name}, student`, mode: 'lines+markers', line, marker: { symbol: symbols, size: 7 } }];
    if (teacher) lines.push({ x: run.epochs, y: values(run, teacher), name: `${name}, teacher`, mode: 'lines', line: { ...line, dash: 'dash' } });
    return lines;
  });

  async function openDetail(...children) {
    const detail = byId('detail');
    Plotly.purge(detail);
    detail.replaceChildren(...children);
    if (matchMedia('(max-width: 1000px)').matches) detail.scrollIntoView({ block: 'start' });
    return arrays();
  }

  async function openPair(pair) {
    state.opened = () => openPair(pair);
    const neighbours = page.common[pair].map((place) => page.names[place]);
    const more = page.numCommon[pair] > neighbours.length ? ', ...' : '';
    const told = neighbours.length ? `${page.numCommon[pair].toLocaleString('en')}: ${neighbours.join(', ')}${more}` : 'none';
    const table = element('table', { name: 'counts' },
      element('tr', {}, ...['run', 'crossings', 'epochs hard', 'drawn', 'dropped', 'picked', 'weight'].map((text) => element('th', { text }))),
      ...page.runs.map((run) => element('tr', {}, element('td', { text: run.name, color: run.color }),
        ...['crossings', 'epochs_hard', 'drawn', 'dropped', 'picked', 'weight'].map((name) =>
          element('td', { text: number(run.pairs[name][pair]), name: 'number' })))));
    const charts = ['scores', 'fate'].map((id) => Object.assign(element('div', { name: 'chart' }), { id }));
    const run = page.runs[state.run];
    const found = await openDetail(
      heading(pairName(pair)),
      facts([
        ['Common neighbours', told],
        ...(page.types ? [['Types', typesOf(pair)]] : []),
        ['Held-out edge (analysis only)', page.heldOut[pair] || 'no'],
      ]),
      table, charts[0],
      element('p', { name: 'soft', text: `Filled: in the hard set; the grey line is the border of the hard set of ${run.name}.` }), charts[1],
      element('p', { name: 'soft', text: `${run.name}: steps in which the pair was drawn, dropped, picked, and its mean weight there.` }),
    );
    if (!charts[0].isConnected) return; // another one was opened meanwhile
    const border = { x: run.epochs, y: run.border, name: 'border of the hard set', mode: 'lines', line: { color: '#8a8a8a', width: 1 } };
    draw(charts[0], [...scores(found, (one, values) => series(one, values, pair), (one, of) => series(one, of.hard, pair)), border], 'logit');
    const { counts, weights } = found[state.run];
    const colors = ['#b8b8b8', '#D55E00', '#0072B2'];
    const bars = ['drawn', 'dropped', 'picked'].map((name, row) => (
      { x: run.epochs, y: series(run, counts, pair, row, 3), name, type: 'bar', marker: { color: colors[row] } }));
    const picked = bars[2].y;
    const weight = series(run, weights, pair).map((sum, time) => (picked[time] ? sum / picked[time] : null));
    draw(charts[1], [...bars, { x: run.epochs, y: weight, name: 'weight', mode: 'markers', marker: { color: '#000', symbol: 'diamond', size: 7 } }], 'steps; weight');
  }

  // Pairs that can be opened from the detail of a node or of types
  const MOST_LISTED = 40;
  const openable = (pairs) => element('ul', { name: 'pairs' }, ...pairs.slice(0, MOST_LISTED).map((pair) => element('li', {},
    element('button', { text: pairName(pair), name: 'open', click: () => openPair(pair) }),
    element('span', { text: ` ${page.runs[state.run].pairs.crossings[pair]} crossings` }))));

  async function openGroup(name, told, pairs) {
    const chart = Object.assign(element('div', { name: 'chart' }), { id: 'scores' });
    const found = await openDetail(heading(name), facts(told), chart,
      element('p', { name: 'soft', text: `Mean logits of the ${pairs.length.toLocaleString('en')} pairs; those that crossed most in ${page.runs[state.run].name}:` }),
      openable(pairs));
    if (!chart.isConnected || !pairs.length) return;
    const mean = (run, values) => run.epochs.map((_, time) =>
      pairs.reduce((sum, pair) => sum + values[time * numPairs + pair], 0) / pairs.length);
    draw(chart, scores(found, mean), 'mean logit');
  }

  function openNode(name) {
    state.opened = () => openNode(name);
    const [row] = page.runs[state.run].nodes.filter((node) => node[0] === name);
    const told = row.slice(1).map((value, place) => [LISTS.nodes.columns()[place + 1].title, typeof value === 'string' ? value : number(value)]);
    return openGroup(name, told, pairsOf((pair) => page.ends[pair].some((end) => page.names[end] === name)));
  }

  function openTypes(name) {
    state.opened = () => openTypes(name);
    return openGroup(name, [], pairsOf((pair) => typesOf(pair) === name));
  }

  // --- CSV, of what is listed; a spreadsheet must not run a name ---

  const cell = (value) => {
    const text = value === null || value === undefined ? '' : String(value);
    const safe = /^[=+\-@\t\r]/.test(text) && !/^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  function csv() {
    const { columns, rows } = listed();
    const titles = columns.map((column) => (column.run ? `${column.title}, ${column.run.name}` : column.title));
    return [titles, ...rows.map((row) => columns.map((column) => column.value(row)))].map((line) => line.map(cell).join(',')).join('\n') + '\n';
  }
  function download() {
    const link = element('a');
    link.href = URL.createObjectURL(new Blob([csv()], { type: 'text/csv' }));
    link.download = `${state.list}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // --- Wiring ---

  const renew = (changes) => {
    Object.assign(state, { shown: MORE }, changes);
    show();
  };
  page.runs.forEach((run, place) => byId('runs').append(Object.assign(
    element('button', { text: run.name, color: run.color, click: () => { renew({ run: place, sort: null }); state.opened?.(); } }), { value: place })));
  byId('lists').addEventListener('click', ({ target }) => {
    if (target.value) renew({ list: target.value, sort: null });
  });
  byId('search').addEventListener('input', ({ target }) => renew({ query: target.value }));
  byId('more').addEventListener('click', () => renew({ shown: state.shown + MORE }));
  byId('csv').addEventListener('click', download);
  window.explorer = { csv };
  show();
})();
