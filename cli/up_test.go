package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// TestAgentsAreToldOfSTUN by an address that leads to this machine also from others; where
// it does not, the operator hears of it.
func TestAgentsAreToldOfSTUN(t *testing.T) {
	for _, c := range []struct {
		listen string
		said   []string
		relay  string
		want   string // its port is any
		warns  bool
	}{
		{"127.0.0.1:0", nil, "127.0.0.1:8443", "127.0.0.1:", false},
		{"127.0.0.1:0", nil, "localhost:8443", "127.0.0.1:", false},
		{"127.0.0.1:0", nil, "192.0.2.7:8443", "127.0.0.1:", true},
		{"127.0.0.1:0", nil, "enclave.example:8443", "127.0.0.1:", true},
		{"0.0.0.0:0", nil, "192.0.2.7:8443", "192.0.2.7:", false},
		{"0.0.0.0:0", nil, "[2001:db8::7]:8443", "[2001:db8::7]:", false},
		{"127.0.0.1:0", []string{"192.0.2.7:3478"}, "192.0.2.7:8443", "192.0.2.7:3478", false},
	} {
		conns, err := listenSTUN([]string{c.listen})
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		a := &app{Streams: Streams{Err: &errs}}
		got := a.tellSTUN(c.said, conns, c.relay)
		closeAll(conns)
		if len(got) != 1 || !strings.HasPrefix(got[0], c.want) || strings.HasSuffix(got[0], ":0") || errs.Len() > 0 != c.warns {
			t.Errorf("STUN at %s, relay %s, said %v: told %q, warning %q", c.listen, c.relay, c.said, got, errs.String())
		}
	}
	if got := (&app{}).tellSTUN(nil, nil, "192.0.2.7:8443"); !slices.Equal(got, nil) {
		t.Errorf("no STUN: told %q", got)
	}
}
