package runs

import (
	"fmt"
	"testing"
	"time"

	"enclave/tui/screen"
	"enclave/wire/api"
)

var now = time.Date(2026, 3, 27, 10, 0, 0, 0, time.UTC)

func record(seq int64, actor, action, detail string) api.AuditRecord {
	return api.AuditRecord{Seq: seq, At: now.Add(time.Duration(seq) * time.Second), Actor: actor, Action: action, Outcome: "ok", Detail: api.Detail(detail)}
}

func TestRunsAreGatheredFromTheTrail(t *testing.T) {
	got := gather([]api.AuditRecord{
		record(1, "run:a", "run.start", `{"run":"a","user":"ana","level":"STRICT"}`),
		record(2, "run:b", "run.start", `{"run":"b","level":"STANDARD"}`),
		record(3, "run:a", "tool.result", `{"run":"a","tool":"users:list","outcome":"ok"}`),
		record(4, "run:a", "tool.result", `{"run":"a","tool":"users:list","outcome":"TOOL_CALL_FAILED"}`),
		record(5, "run:a", "run.end", `{"run":"a","outcome":"VALIDATION_ERROR","score":70}`),
		record(6, "token:first", "run.end", `{"run":"b","outcome":"ok"}`), // only a run's own word counts
		record(7, "run:c", "run.end", `not JSON`),
	}, []screen.Session{{ID: "s_1", Run: "b", State: "waiting", At: now}, {ID: "s_2", Run: "a", State: "running"}, {ID: "s_3", Run: "d", State: "cancelled", At: now}})
	var said []string
	for _, r := range got {
		said = append(said, fmt.Sprint(r.id, " ", r.state, " ", r.level, " ", r.risk(), " ", r.tools(), " ", r.session, " ", r.live()))
	}
	want := []string{"b waiting STANDARD - - s_1 true", "a failed STRICT 70 users:list ×2 s_2 false", "d cancelled  - - s_3 false"}
	if fmt.Sprint(said) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", said, want)
	}
}

func FuzzGather(f *testing.F) {
	f.Add("run:a", "run.start", `{"run":"a","level":"STRICT","args":{"x":[1]}}`)
	f.Add("run:", "tool.result", `{"duration_ns":-1,"score":9}`)
	f.Add("x", "run.end", ``)
	f.Fuzz(func(t *testing.T, actor, action, detail string) {
		for _, r := range gather([]api.AuditRecord{record(1, actor, action, detail), record(2, actor, "run.end", detail)}, nil) {
			_, _, _ = r.risk(), r.tools(), r.took(now)
		}
	})
}
