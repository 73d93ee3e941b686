package cli

import (
	"fmt"
	"strings"
	"time"
)

// bar shows on standard error how far something long has come, on a terminal and once it
// has taken a second.
type bar struct {
	a           *app
	word, unit  string
	began, last time.Time
	shown       bool
}

const (
	barAfter = time.Second
	barEvery = 200 * time.Millisecond
)

func (a *app) bar(word, unit string) *bar {
	return &bar{a: a, word: word, unit: unit, began: time.Now()}
}

func (b *bar) at(done, total int64) {
	now := time.Now()
	if !b.a.Terminal || b.a.json || now.Sub(b.began) < barAfter || now.Sub(b.last) < barEvery || total <= 0 {
		return
	}
	b.last, b.shown = now, true
	const width = 30
	full := int(width * min(done, total) / total)
	fmt.Fprintf(b.a.raw.Err, "\r[%-*s] %d of %d %s %s", width, strings.Repeat("#", full), done, total, b.unit, b.word)
}

func (b *bar) end() {
	if b.shown {
		fmt.Fprint(b.a.raw.Err, "\r\033[K")
	}
}
