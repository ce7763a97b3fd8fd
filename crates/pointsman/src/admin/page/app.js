// The page: head, views, keys. Everything it shows is in the model of live.js; it changes nothing at the balancer.

import { html, render, useEffect, useLayoutEffect, useState } from "/page/htm-preact.js"
import { clock, day, ms, num, plural, span } from "/page/format.js"
import { Charts } from "/page/charts.js"
import { List, useRows } from "/page/list.js"
import { Service } from "/page/service.js"
import { Attention, Changes, Choice, Dot, Figures, Help, link } from "/page/parts.js"
import { model, serverNow, start, subscribe } from "/page/live.js"

const DAY = 86400
const VIEWS = [['', 'Overview'], ['changes', 'Changes'], ['certificates', 'Certificates'], ['fleet', 'Fleet']]

const useModel = () => {
  const [, beat] = useState(0)
  useEffect(() => subscribe(() => beat(count => count + 1)), [])
}

const place = () => location.hash.replace(/^#\/?/, '').split('/').map(part => { try { return decodeURIComponent(part) } catch { return part } })

const usePlace = () => {
  const [at, setAt] = useState(place)
  useEffect(() => {
    const moved = () => setAt(place())
    addEventListener('hashchange', moved)
    return () => removeEventListener('hashchange', moved)
  }, [])
  return at
}

const stored = name => { try { return localStorage.getItem(name) } catch { return null } }
const DARK = matchMedia('(prefers-color-scheme: dark)')

/** The theme in use, and how to turn it. */
const useTheme = () => {
  const [chosen, setChosen] = useState(stored('theme'))
  const [, turned] = useState(0)
  useEffect(() => {
    const system = () => turned(count => count + 1)
    DARK.addEventListener('change', system)
    return () => DARK.removeEventListener('change', system)
  }, [])
  const theme = chosen || (DARK.matches ? 'dark' : 'light')
  document.documentElement.dataset.theme = theme
  const turn = () => {
    const next = theme === 'dark' ? 'light' : 'dark'
    try { localStorage.setItem('theme', next) } catch { /* for this visit only */ }
    setChosen(next)
  }
  return [theme, turn]
}

/** Whether a balancer serves older keys than another. Followers of a folder count for themselves. */
const isBehind = one => !model.meta?.via?.startsWith('folder') && one.revision < Math.max(...model.fleet.members.map(other => other.revision))

const LINKS = { connecting: 'Connecting…', live: 'Live', lost: 'Not connected', refused: 'Too many pages', asleep: 'Paused' }

const StoreState = ({ meta }) => {
  const kind = { watching: 'ok', lost: 'bad', connecting: 'warn' }[meta.state]
  const word = meta.state === 'watching' ? 'Store' : meta.state === 'lost' ? `Store lost ${span((serverNow() - meta.since) / 1000)}` : 'Waiting for the store'
  return html`<span class="pill" title=${meta.via || meta.error || ''}><${Dot} kind=${kind} />${word}<span class="muted">${meta.applied ? `rev ${meta.applied}` : ''}</span></span>`
}

const Bar = ({ view, theme, turn, help }) => {
  const { meta, link: state } = model, soon = model.certificates.filter(one => isSoon(one, serverNow() / 1000)).length + model.acme.filter(one => one.error).length
  const counts = { certificates: soon, fleet: (model.fleet?.members || []).filter(one => one.stage !== 'serving' || one.store || isBehind(one)).length }
  return html`<div class="bar"><div class="inner">
    <a class="brand" href="#/"><img src="/page/icon.svg" alt="" width="18" height="18" /><b>${meta?.name || 'Pointsman'}</b>${meta?.prefix && html`<span class="muted prefix">${meta.prefix}</span>`}</a>
    <nav>${VIEWS.map(([key, title]) => html`<a key=${key} href=${'#/' + key} aria-current=${view === key ? 'page' : undefined}>${title}${counts[key] > 0 && html`<i class="count">${counts[key]}</i>`}</a>`)}</nav>
    <div class="ends">${meta && html`<${StoreState} meta=${meta} />`}
      <span class="pill link" title=${model.said}><${Dot} kind=${state === 'live' ? 'ok pulse' : state === 'connecting' ? 'idle' : 'bad'} />${LINKS[state]}</span>
      <button class="plain" title="Light or dark (t)" aria-label="Light or dark" onClick=${turn}>${theme === 'dark' ? 'Light' : 'Dark'}</button>
      <button class="plain" title="Keys (?)" aria-label="Keys" onClick=${help}>?</button></div>
  </div></div>`
}

/** What makes the figures below doubtful. */
const Banner = () => {
  const { meta, link: state, said, heard } = model, since = heard ? `The figures are from ${clock(heard)}, ${span((Date.now() - heard) / 1000)} ago.` : ''
  const lines = [
    state === 'lost' && ['bad', 'The balancer does not answer this page.', `${since} ${said}. It tries again by itself.`],
    state === 'refused' && ['warn', 'This page is not live.', `${said}. ${since} It tries again by itself.`],
    meta?.state === 'lost' && ['bad', `The store is lost since ${clock(meta.since)}, ${span((serverNow() - meta.since) / 1000)} ago.`, `The last keys are served on, of revision ${meta.applied}. ${meta.error}`],
    meta?.state === 'connecting' && ['warn', 'The store was not reached yet.', meta.error || ''],
    meta?.unready && meta.state !== 'connecting' && ['warn', 'Not ready.', meta.unready],
  ].filter(Boolean)
  return lines.map(([kind, head, text]) => html`<div class=${'banner ' + kind} role="status" key=${head}><${Dot} kind=${kind} /><p><b>${head}</b> ${text}</p></div>`)
}

const Now = () => {
  if (!model.now) return null
  const [[requests, connections, e4, e5], p50, p99, active, open, [up, all, down]] = model.now
  const share = count => requests > 0 && count > 0 ? `${num(Math.min(100, count / requests * 100))} %` : ''
  return html`<${Figures} items=${[['Requests/s', num(requests)], connections > 0 && ['TCP connections/s', num(connections)], ['4xx/s', num(e4), share(e4)], ['5xx/s', num(e5), share(e5), e5 ? 'bad' : ''], ['p50', ms(p50)], ['p99', ms(p99)],
    ['Open requests', num(active)], ['Connections', num(open)], ['Instances up', num(up), `of ${num(all)}`, down ? 'bad' : '']]} />`
}

const RANGES = [[900, '15 min'], [3600, '1 h'], [86400, '24 h']]

const Traffic = ({ theme }) => {
  const [range, setRange] = useState(900), [picked, pick] = useState(null)
  const points = range > 3600 ? model.past.coarse : model.past.fine
  return html`<section class="card traffic"><header><h2>Traffic</h2><${Choice} label="Range" options=${RANGES} value=${range} set=${setRange} /></header>
    <${Charts} ...${{ points, range, changes: model.changes, picked, now: serverNow() / 1000, theme }} />
    <header class="sub"><h2>What changed</h2><a href="#/changes">All changes</a></header>
    <${Changes} ...${{ changes: model.changes, few: 4, picked, pick }} />
  </section>`
}

const Overview = ({ theme, view, setView, picked, rows }) => html`<${Now} /><${Attention} ...${{ problems: model.problems, down: model.down, now: serverNow() }} />
  <${Traffic} theme=${theme} /><${List} ...${{ model, view, setView, picked, rows }} />`

const Timeline = () => html`<section class="card"><header><h2>Changes</h2><span class="muted">the last ${model.changes.length}, since ${model.meta ? clock(model.meta.started) : 'the start'}</span></header>
  <${Changes} changes=${model.changes} few=${400} /></section>`

// As the problem "expires soon": two weeks, or a third of a short life.
const isSoon = (one, now) => one.expires - now < Math.min(14 * DAY, (one.expires - one.valid) / 3)

const Certificates = () => {
  const now = serverNow() / 1000
  const left = one => one.valid > now ? ['warn', `valid in ${span(one.valid - now)}`] : one.expires < now ? ['bad', `expired ${span(now - one.expires)} ago`] : [isSoon(one, now) ? 'warn' : 'ok', span(one.expires - now)]
  return html`<section class="card"><header><h2>Certificates</h2><span class="muted">${plural(model.certificates.length, 'certificate')}, the first to expire on top</span></header>
    ${model.certificates.length ? html`<div class="wide"><table><thead><tr><th>Name</th><th>For</th><th>Valid from</th><th>Expires</th><th>Left</th></tr></thead>
      <tbody>${model.certificates.map(one => { const [kind, words] = left(one); return html`<tr key=${one.name}><td class="who"><b>${one.name}</b></td><td class="names">${one.names.join(', ')}</td>
        <td data-name="From">${day(one.valid * 1000)}</td><td data-name="Expires">${day(one.expires * 1000)}</td><td data-name="Left"><${Dot} kind=${kind} />${words}</td></tr>` })}</tbody></table></div>`
    : html`<p class="empty muted">This balancer has no certificates.</p>`}</section>
  ${model.acme.length ? html`<section class="card"><header><h2>By ACME</h2><span class="muted">${plural(model.acme.length, 'name')}, failures on top</span></header>
    <div class="wide"><table><thead><tr><th>Name</th><th>Issuer</th><th>Expires</th><th>Next</th><th>Last error</th></tr></thead>
      <tbody>${model.acme.map(one => html`<tr key=${one.name}><td class="who"><b>${one.name}</b></td><td data-name="Issuer">${one.issuer || '–'}</td>
        <td data-name="Expires">${one.expires ? day(one.expires * 1000) : '–'}</td><td data-name="Next"><${Dot} kind=${one.error ? 'bad' : one.expires ? 'ok' : 'warn'} />${one.next}${one.due ? `, ${day(one.due * 1000)} ${clock(one.due * 1000)}` : ''}</td>
        <td class="names">${one.error || ''}</td></tr>`)}</tbody></table></div></section>` : ''}`
}

const Fleet = () => {
  const { fleet, meta } = model, members = fleet?.members || []
  return html`<section class="card"><header><h2>Fleet</h2><span class="muted">${fleet?.at ? `${plural(members.length, 'balancer')} of ${meta?.prefix || 'this store'}, read at ${clock(fleet.at)}` : 'not read yet'}</span></header>
    ${fleet?.error && html`<p class="foot bad">Cannot be read: ${fleet.error}</p>`}
    <div class="wide"><table><thead><tr><th>Balancer</th><th>State</th><th>Revision</th><th>Down</th><th>Problems</th><th>Last good</th><th>Engine</th><th>Listens</th><th>Admin</th></tr></thead>
      <tbody>${members.map(one => html`<tr key=${one.name}><td class="who"><b>${one.name}</b>${one.name === meta?.name && html`<span class="tag">this one</span>`}</td>
        <td class="state"><span><${Dot} kind=${one.store ? 'bad' : one.stage === 'serving' ? 'ok' : 'warn'} />${one.store ? 'store lost' : one.stage}</span></td>
        <td data-name="Revision"><em class=${isBehind(one) ? 'warn' : ''}>${one.revision}</em></td><td data-name="Down"><em class=${one.down ? 'bad' : 'zero'}>${one.down}</em></td>
        <td data-name="Problems"><em class=${one.problems ? 'warn' : 'zero'}>${one.problems}</em></td><td data-name="Last good"><em class=${one.last_good ? 'warn' : 'zero'}>${one.last_good}</em></td>
        <td data-name="Engine">${one.engine} ${one.version}</td><td class="names">${one.listens.join(', ')}</td><td class="names">${one.admin || ''}</td></tr>`)}</tbody></table></div>
    ${meta && html`<dl class="settings"><div><dt>store</dt><dd>${meta.via || meta.store.join(', ')}</dd></div><div><dt>revision read</dt><dd>${meta.revision}</dd></div><div><dt>revision served</dt><dd>${meta.applied}</dd></div>
      <div><dt>last change</dt><dd>${meta.changed ? clock(meta.changed) : '–'}</dd></div><div><dt>engine</dt><dd>${meta.engine}${meta.haproxy ? ` ${meta.haproxy.version}, ${plural(meta.haproxy.reloads, 'reload')}` : ''}</dd></div>
      <div><dt>version</dt><dd>${meta.version}</dd></div><div><dt>started</dt><dd>${clock(meta.started)}</dd></div><div><dt>status in the store</dt><dd>${meta.kept ? 'kept' : 'not kept'}</dd></div></dl>`}
  </section>`
}

const typing = () => ['INPUT', 'TEXTAREA'].includes(document.activeElement?.tagName)

const App = () => {
  useModel()
  const [first, ...more] = usePlace(), [theme, turn] = useTheme(), [help, setHelp] = useState(false)
  const [view, setView] = useState({ filter: '', kind: 'all', sort: '' }), [picked, setPicked] = useState(-1)
  const rows = useRows(model, view.filter, view.kind, view.sort)
  const isOverview = !VIEWS.some(([key]) => key && key === first) && first !== 'service'
  useEffect(() => { document.title = (model.down.length ? `${model.down.length} down · ` : '') + (first === 'service' ? more[1] + ' · ' : '') + (model.meta?.name || 'Pointsman') })
  const [left, setLeft] = useState(0)
  useEffect(() => { scrollTo(0, isOverview ? left : 0) }, [first, more[1]])
  useEffect(() => { setPicked(-1) }, [view.filter, view.kind])
  const keys = {
    '/': () => { if (!isOverview) location.hash = '#/'; setTimeout(() => { const filter = document.getElementById('filter'); filter?.scrollIntoView({ block: 'nearest' }); filter?.focus() }) },
    j: () => isOverview && setPicked(Math.min(rows.length - 1, picked + 1)),
    k: () => isOverview && setPicked(Math.max(0, picked - 1)),
    Enter: () => isOverview && rows[picked] && (setLeft(scrollY), location.hash = link(rows[picked].key)),
    Escape: () => help ? setHelp(false) : !isOverview ? location.hash = '#/' : (setView({ ...view, filter: '', kind: 'all' }), setPicked(-1)),
    g: () => scrollTo(0, 0), t: turn, '?': () => setHelp(!help),
  }
  // At once: the next key may come before the next frame.
  useLayoutEffect(() => {
    const pressed = event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return
      if (typing()) {
        if (event.key === 'Escape' || event.key === 'Enter') document.activeElement.blur()
        if (event.key === 'Enter' && rows.length === 1) location.hash = link(rows[0].key)
        else if (event.key === 'Enter' && rows.length) setPicked(0)
        if (event.key === 'Escape') keys.Escape()
        return
      }
      const does = keys[event.key]
      if (!does || (event.key === 'Enter' && document.activeElement?.matches('a, button'))) return
      event.preventDefault()
      does()
    }
    addEventListener('keydown', pressed)
    return () => removeEventListener('keydown', pressed)
  })
  const shown = first === 'service' ? html`<${Service} key=${more.join('/')} protocol=${more[0]} name=${more[1] || ''} theme=${theme} />`
    : first === 'changes' ? html`<${Timeline} />` : first === 'certificates' ? html`<${Certificates} />` : first === 'fleet' ? html`<${Fleet} />`
    : html`<${Overview} ...${{ theme, view, setView, picked, rows }} />`
  return html`<${Bar} view=${isOverview ? '' : first} theme=${theme} turn=${turn} help=${() => setHelp(true)} />
    <main onClickCapture=${event => isOverview && event.target.closest('a.row') && setLeft(scrollY)}><${Banner} />${model.heard ? shown : html`<p class="empty muted">${model.link === 'connecting' ? 'Connecting to the balancer…' : ''}</p>`}</main>
    ${help && html`<${Help} close=${() => setHelp(false)} />`}`
}

render(html`<${App} />`, document.getElementById('app'))
start()
