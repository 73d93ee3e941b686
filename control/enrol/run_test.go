package enrol

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"enclave/wire"
)

// TestRunsAreCheckedBeforeTheStoreIsAsked: every mistake is told, with its place.
func TestRunsAreCheckedBeforeTheStoreIsAsked(t *testing.T) {
	many := make([]wire.Tag, wire.MaxTagsPerSystem+1)
	for i := range many {
		many[i] = wire.Tag(fmt.Sprintf("t%d", i))
	}
	for _, c := range []struct {
		name  string
		req   wire.EnrolRequest
		wants []string
	}{
		{"as many tags as may be", wire.EnrolRequest{Run: &wire.RunInfo{Tags: many[1:]}}, nil},
		{"one more", wire.EnrolRequest{Run: &wire.RunInfo{Tags: many}}, []string{"run.tags: "}},
		{"a relay", wire.EnrolRequest{Run: &wire.RunInfo{}, Relay: &wire.RelayInfo{}}, []string{"run: "}},
		{"tags that are none", wire.EnrolRequest{Run: &wire.RunInfo{Tags: []wire.Tag{"ok", "Bad", "ok"}}}, []string{"run.tags[1]: ", "run.tags[2]: "}},
	} {
		var got []string
		for _, p := range checkRun(&c.req) {
			got = append(got, p.Error())
		}
		if len(got) != len(c.wants) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i, want := range c.wants {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: %q, want %q", c.name, got[i], want)
			}
		}
	}
}

func TestClocksMayDifferByTheLimit(t *testing.T) {
	for skew, ok := range map[time.Duration]bool{0: true, wire.MaxClockSkew: true, -wire.MaxClockSkew: true, wire.MaxClockSkew + 1: false, -wire.MaxClockSkew - 1: false} {
		if err := CheckClock(start.Add(skew), start); (err == nil) != ok {
			t.Errorf("%s: %v", skew, err)
		}
	}
}
