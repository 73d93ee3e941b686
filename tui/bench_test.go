package tui

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/screen/flows"
	"enclave/wire"
	"enclave/wire/api"
)

// crowd is the lab with 2,000 systems, as many flows as a screen keeps, and a mesh by tag.
func crowd() *server {
	s := lab()
	one := s.org.Systems[0]
	for i := range 2000 {
		one.ID, one.Name = wire.SystemID(fmt.Sprintf("s%04d", i)), fmt.Sprintf("host-%d", i)
		s.org.Systems = append(s.org.Systems, one)
	}
	for i := range flows.MaxFlows {
		f := api.LiveFlow{Flow: wire.Flow{Proto: wire.TCP, Src: netip.AddrPortFrom(netip.MustParseAddr("100.64.0.1"), uint16(i)), Dst: netip.MustParseAddrPort("100.64.0.2:80")},
			Names: [2]string{fmt.Sprintf("host-%d", i%2000), "pod-1"}, PolicyName: "Kubernetes", Since: now}
		s.flows = append(s.flows, f)
	}
	return s
}

// BenchmarkKey is what one key costs on each screen with 2,000 systems while 500 records
// and 500 flows a second come: the records of the 20 ms before it, a new reading of the
// organisation and of the flows, which come once a second at most, the key, and the frame.
func BenchmarkKey(b *testing.B) {
	for _, c := range []struct {
		name string
		path []string
	}{
		{"overview", []string{"1"}}, {"systems", []string{"2"}}, {"systems searched", []string{"2", "/", "text:host-1", "enter"}}, {"system", []string{"2", "down", "enter"}},
		{"policies", []string{"3"}}, {"form", []string{"3", "c"}}, {"flows", []string{"5"}}, {"flows searched", []string{"5", "/", "text:host-1", "enter"}},
		{"audit", []string{"6"}}, {"audit filtered", []string{"6", "/", "text:kube", "enter"}}, {"map of tags", []string{"7"}}, {"map of systems", []string{"7", "v"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := crowd()
			m := model(s, Options{})
			m.Update(tea.WindowSizeMsg{Width: 120, Height: 40})
			press(m, c.path...)
			down := keys.New("x", "down").Press()
			b.ReportAllocs()
			for b.Loop() {
				m.Update(records(s.audit[:10]))
				m.Update(loaded{org: screen.Org{Systems: append([]api.System(nil), s.org.Systems...), Policies: s.org.Policies}})
				if c.path[0] == "5" {
					run(m, m.current().Update(screen.Tick{}, &m.state))
				}
				m.Update(down)
				_ = m.View()
			}
			b.ReportMetric(float64(b.Elapsed())/float64(time.Millisecond)/float64(b.N), "ms/key")
		})
	}
}

// TestMemoryIsBoundedInACrowd goes through every screen again and again while records and
// flows come: what is kept is one reading of each.
func TestMemoryIsBoundedInACrowd(t *testing.T) {
	s := crowd()
	m := model(s, Options{})
	m.Update(tea.WindowSizeMsg{Width: 120, Height: 40})
	heap := func() uint64 {
		var st runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&st)
		return st.HeapAlloc
	}
	turn := func(n int) {
		for range n {
			for i := range m.screens {
				press(m, string(rune('1'+i)), "down")
				m.Update(records(s.audit))
				run(m, m.current().Update(screen.Tick{}, &m.state))
				m.Update(loaded{org: s.org})
			}
		}
	}
	turn(2)
	before := heap()
	turn(10)
	if after := heap(); after > before+8<<20 {
		t.Errorf("%d MiB after 10 rounds, %d MiB before", after>>20, before>>20)
	}
}
