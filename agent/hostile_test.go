package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// TestAHostileControl: whoever has control's key answers an agent as it likes. The agent
// goes on with what it had, to the end of that map's life and no longer, says what is wrong
// in short lines that steer no terminal, and comes back to an honest one.
func TestAHostileControl(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		const life = time.Hour
		began := time.Now()
		good := mapOf(7, began.Add(life), b.org.peer("bbbbb", 2, began, always), b.org.peer("ccccc", 3, began, span{until: began.Add(30 * time.Minute)}))
		line := func(m wire.Message) []byte { return append(encode(m), '\n') }
		changed := func(f func(m *wire.Map)) []byte {
			var m wire.Map
			_ = json.Unmarshal(encode(good), &m)
			f(&m)
			return line(wire.Message{Map: &m})
		}
		esc := "\x1b]0;owned\a\x1b[2J\u202e"
		said := [][]byte{
			[]byte("\x00\xff\xfe\n"), []byte("null\n"), []byte(`{"map":` + strings.Repeat(`{"self":`, 40) + "\n"),
			[]byte(`{"map":{"peers":[` + strings.Repeat("null,", wire.MaxPeers) + "null]}}\n"),
			changed(func(m *wire.Map) { m.Revision = 6 }),                  // replayed
			line(wire.Message{Delta: &wire.Delta{Since: 9, Revision: 10}}), // out of order
			line(wire.Message{Heartbeat: &wire.Heartbeat{Revision: 3, ValidUntil: began.AddDate(50, 0, 0)}}),
			changed(func(m *wire.Map) { m.Self.ID = "zzzzz" }),
			changed(func(m *wire.Map) { m.Self.Name = strings.Repeat(esc, 1000) }),
			changed(func(m *wire.Map) { m.Self.IPv4 = netip.MustParseAddr("127.0.0.1") }),
			line(wire.Message{Delta: &wire.Delta{Cause: strings.Repeat(esc, 1000)}}),
			line(wire.Message{Bye: &wire.Bye{Code: esc, Message: esc}}),
			[]byte(`{"bye":{"code":"restart","message":"` + strings.Repeat("x", 1<<16) + `"}}` + "\n"),
			nil, // a trickle
		}
		var refused atomic.Int64
		b.script.raw = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if r.URL.Path != wire.PathStream {
				b.mu.Lock()
				asked := b.asked[r.URL.Path]
				b.mu.Unlock()
				w.WriteHeader([]int{200, 301, 403, 410, 500}[asked%5])
				fmt.Fprintf(w, `{"code":%q,"title":%q,"detail":%q}`, esc, esc, esc)
				return true
			}
			n := int(refused.Add(1)) - 1
			if n == 0 {
				w.Write(line(wire.Message{Map: &good}))
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			} else if what := said[(n-1)%len(said)]; what != nil {
				w.Write(what)
			} else {
				for range 100 { // no line ever ends
					io.WriteString(w, " ")
					w.(http.Flusher).Flush()
					select {
					case <-time.After(10 * time.Second):
					case <-r.Context().Done():
						return true
					}
				}
			}
			return true
		}
		b.start(t)
		after(20 * time.Minute)
		b.wantPeers(t, "bbbbb ccccc")
		after(20 * time.Minute)
		b.wantPeers(t, "bbbbb")
		if n := int(refused.Load()); n < 2*len(said) {
			t.Errorf("%d lies only", n)
		}
		after(life)
		b.wantPeers(t, "")
		b.wantState(t, api.AgentClosed)
		for l := range bytes.Lines([]byte(b.log.String())) {
			if len(l) > 4096 || bytes.ContainsAny(bytes.TrimSuffix(l, []byte("\n")), "\x00\x07\x1b\u202e") {
				t.Errorf("a line of %d bytes: %.300q", len(l), l)
				break
			}
		}
		b.mu.Lock()
		b.script.raw = nil
		b.mu.Unlock()
		b.onStream(steadyStream(mapOf(8, time.Time{}, b.org.peer("bbbbb", 2, time.Now(), always)), time.Hour))
		after(2*backoffMost + 2*wire.HeartbeatEvery)
		b.wantState(t, api.AgentRunning)
		b.wantPeers(t, "bbbbb")
	})
}
