// What the balancer tells: one stream of messages, held in one model. Draws nothing.

const nothing = () => ({ now: null, problems: { count: 0, list: [] }, down: [], certificates: [], acme: [], fleet: null })

/** The state of the page's connection: connecting, live, lost, refused, asleep. */
export const model = {
  link: 'connecting', said: '', heard: 0, skew: 0,
  meta: null, ...nothing(), changes: [], rows: new Map(), byKey: new Map(), names: 0,
  past: { step: 5, fine: [], coarse: [] }, visited: new Map(),
}

const SPARK = 48, VISITED = 12, VISITED_POINTS = 1800, SILENT = 6000, SLEEP = 60000, CHANGES = 400
const listeners = new Set()

export const subscribe = listener => (listeners.add(listener), () => listeners.delete(listener))
const tell = () => listeners.forEach(listener => listener())

/** The balancer's time, in milliseconds. */
export const serverNow = () => Date.now() + model.skew

/** Whether so many answers of a service are 5xx that somebody should look. */
export const isFailing = row => row.e5 >= 0.1 && row.e5 > row.rate * 0.02

/** 3: down, 2: in part, 1: a problem, 0: well. */
export const severity = row => {
  if (row.up === 0 && row.drained < row.n) return 3
  if (row.n === 0) return 2
  if (row.down > 0 || row.flags & 1 || isFailing(row)) return 2
  return row.problems > 0 || row.flags & 2 || row.up === 0 ? 1 : 0
}

/** The rows before a full message: their small lines go on. */
let before = new Map()

const named = ([id, key, rule, search, n, drained]) => {
  const cut = key.indexOf('/')
  const row = model.rows.get(id) || {
    id, up: 0, down: 0, rate: 0, e4: 0, e5: 0, p50: null, p99: null, active: 0, queue: 0, problems: 0, flags: 0, spark: before.get(key)?.spark,
  }
  Object.assign(row, { key, protocol: key.slice(0, cut), name: key.slice(cut + 1), rule, n, drained })
  row.text = `${key} ${rule} ${search}`.toLowerCase()
  model.rows.set(id, row)
  model.byKey.set(key, row)
}

const figured = ([id, up, down, [rate, e4, e5], p50, p99, active, queue, problems, flags]) => {
  const row = model.rows.get(id)
  if (row) Object.assign(row, { up, down, rate, e4, e5, p50, p99, active, queue, problems, flags })
}

const gone = id => {
  const row = model.rows.get(id)
  model.rows.delete(id)
  if (row && model.byKey.get(row.key) === row) model.byKey.delete(row.key)
}

const beat = at => {
  for (const row of model.rows.values()) {
    if (!row.spark) {
      if (!(row.rate > 0)) continue
      row.spark = new Float32Array(SPARK).fill(NaN)
    }
    row.spark.copyWithin(0, 1)
    row.spark[SPARK - 1] = row.rate
  }
  for (const [key, points] of model.visited) {
    const row = model.byKey.get(key)
    if (row) points.push([at / 1000, [row.rate, 0, row.e4, row.e5, 0, 0], row.p50, row.p99, row.active])
    if (points.length > VISITED_POINTS) points.shift()
  }
}

/** The points of one service since its page was first opened. */
export const pastOf = key => {
  if (!model.visited.has(key)) {
    model.visited.set(key, [])
    if (model.visited.size > VISITED) model.visited.delete(model.visited.keys().next().value)
  }
  return model.visited.get(key)
}

const changed = entries => {
  const all = new Map(model.changes.map(entry => [entry.number, entry]))
  entries.forEach(entry => all.set(entry.number, entry))
  model.changes = [...all.values()].sort((a, b) => b.number - a.number).slice(0, CHANGES)
}

const take = message => {
  if (message.full) {
    before = model.byKey
    model.byKey = new Map()
    model.rows.clear()
    Object.assign(model, nothing(), { changes: [] })
    loadPast()
  }
  for (const part of ['meta', 'now', 'problems', 'down', 'certificates', 'acme', 'fleet']) {
    if (message[part] !== undefined) model[part] = message[part]
  }
  const { names = [], figures = [], gone: left = [] } = message.rows || {}
  left.forEach(gone)
  names.forEach(named)
  figures.forEach(figured)
  if (message.full || names.length || left.length) model.names++
  if (message.changes) changed(message.changes)
  if (message.past) {
    model.past.fine.push(message.past)
    if (model.past.fine.length > 3600 / model.past.step) model.past.fine.shift()
  }
  Object.assign(model, { link: 'live', heard: Date.now(), skew: message.at - Date.now() })
  beat(message.at)
  tell()
}

const loadPast = async () => {
  try {
    const answer = await fetch('/api/history')
    if (answer.ok) model.past = await answer.json()
    tell()
  } catch { /* the stream says that the balancer is away */ }
}
setInterval(() => model.link === 'live' && !document.hidden && loadPast(), 60000)

let stop = null, tries = 0, timer = 0

const later = (link, said, wait) => {
  Object.assign(model, { link, said })
  clearTimeout(timer)
  timer = setTimeout(connect, wait)
  tell()
}

const read = async (body, alive) => {
  const reader = body.getReader(), decoder = new TextDecoder()
  for (let text = ''; ;) {
    const { done, value } = await reader.read()
    if (done) return
    alive()
    text += decoder.decode(value, { stream: true })
    const events = text.split('\n\n')
    text = events.pop()
    for (const event of events) if (event.startsWith('data: ')) take(JSON.parse(event.slice(6)))
    tries = 0
  }
}

const connect = async () => {
  clearTimeout(timer)
  stop?.abort()
  const own = stop = new AbortController()
  let watchdog = 0
  const alive = () => {
    clearTimeout(watchdog)
    watchdog = setTimeout(() => own.abort(), SILENT)
  }
  try {
    alive()
    const answer = await fetch('/api/live', { signal: own.signal, cache: 'no-store' })
    if (answer.status === 503) return later('refused', (await answer.text()).trim(), 12000 + Math.random() * 8000)
    if (!answer.ok) throw new Error(`the balancer answered ${answer.status}: ${(await answer.text()).trim()}`)
    await read(answer.body, alive)
    if (own === stop) later('lost', 'the balancer closed the connection', 1000)
  } catch (error) {
    if (own === stop) later('lost', own.signal.aborted ? 'no message came in time' : error.message, Math.min(10000, 1000 * 2 ** tries++))
  } finally {
    clearTimeout(watchdog)
  }
}

let rest = 0
document.addEventListener('visibilitychange', () => {
  clearTimeout(rest)
  if (!document.hidden) {
    if (model.link !== 'live') connect()
    return
  }
  // Nobody looks: leave the place to others.
  rest = setTimeout(() => {
    const own = stop
    stop = null
    own?.abort()
    clearTimeout(timer)
    model.link = 'asleep'
  }, SLEEP)
})

export const start = () => (connect(), setInterval(tell, 5000))
