package control

import (
	"testing"

	"enclave/wire"
)

// TestStrangersAnswerNoQuestion tells the hub what it has not asked.
func TestStrangersAnswerNoQuestion(t *testing.T) {
	h := emptyHub()
	q := &ask{wait: map[wire.SystemID]bool{"a": true}, told: map[wire.SystemID]*wire.FlowReport{}, done: make(chan struct{})}
	h.asks["x"] = q
	h.told("b", &wire.FlowReport{ID: "x"})
	h.told("a", &wire.FlowReport{ID: "y"})
	if len(q.told) != 0 || len(q.wait) != 1 {
		t.Errorf("%+v", q)
	}
	h.told("a", &wire.FlowReport{ID: "x"})
	<-q.done
	h.told("a", &wire.FlowReport{ID: "x"}) // once more, after the end
}
