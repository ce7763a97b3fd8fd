// Numbers and times as people read them. Knows nothing of the page.

export const NONE = '–'

const trim = (value, digits) => value.toFixed(digits).replace(/\.0+$/, '')

/** A count or a rate: 0.3, 12.4, 980, 12.4k. */
export const num = value => {
  if (value == null) return NONE
  if (value === 0) return '0'
  if (value < 1) return value < 0.01 ? '<0.01' : trim(value, 2)
  if (value < 100) return trim(value, 1)
  if (value < 10000) return Math.round(value).toLocaleString('en')
  if (value < 1e6) return trim(value / 1e3, 1) + 'k'
  return trim(value / 1e6, 1) + 'M'
}

/** Milliseconds: 0.4 ms, 12 ms, 1.2 s. */
export const ms = value => {
  if (value == null) return NONE
  if (value < 10) return trim(value, 1) + ' ms'
  if (value < 1000) return Math.round(value) + ' ms'
  return value >= 10000 ? '≥10 s' : trim(value / 1000, 1) + ' s'
}

/** Bytes: 1.2 kB. */
export const bytes = value => {
  const unit = value < 1e3 ? [1, 'B'] : value < 1e6 ? [1e3, 'kB'] : value < 1e9 ? [1e6, 'MB'] : [1e9, 'GB']
  return trim(value / unit[0], 1) + ' ' + unit[1]
}

/** A span in seconds: 12 s, 3 min, 2 h, 4 days. */
export const span = seconds => {
  const s = Math.max(0, Math.round(seconds))
  if (s < 90) return s + ' s'
  if (s < 5400) return Math.round(s / 60) + ' min'
  if (s < 129600) return Math.round(s / 3600) + ' h'
  return Math.round(s / 86400) + ' days'
}

const two = number => String(number).padStart(2, '0')

/** A moment of today as 03:12:07, of another day with its date. `at`: milliseconds; `brief`: no seconds. */
export const clock = (at, brief) => {
  const when = new Date(at)
  if (brief) return `${two(when.getHours())}:${two(when.getMinutes())}`
  const time = [when.getHours(), when.getMinutes(), when.getSeconds()].map(two).join(':')
  const isToday = when.toDateString() === new Date().toDateString()
  return isToday ? time : `${two(when.getDate())} ${when.toLocaleString('en', { month: 'short' })} ${time.slice(0, 5)}`
}

/** A day: 3 Apr 2027. `at`: milliseconds. */
export const day = at => new Date(at).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' })

export const plural = (count, noun) => `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`
