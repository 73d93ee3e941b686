package tunnel

import (
	"strings"
	"testing"
)

// The text comes from our own process; the parser must still not fall over it when an
// upgrade adds lines.
func FuzzParseStats(f *testing.F) {
	key := "public_key=a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1\n"
	f.Add("private_key=00\n" + key + "last_handshake_time_sec=1\nlast_handshake_time_nsec=5\nrx_bytes=7\ntx_bytes=9\nallowed_ip=100.64.0.1/32\n")
	f.Add("rx_bytes=7\n" + key + "rx_bytes=x\n=\npublic_key=zz\nrx_bytes=8\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n := len(parseStats(text)); n > strings.Count(text, "public_key=") {
			t.Fatalf("%d peers", n)
		}
	})
}

func TestParseStats(t *testing.T) {
	key := "public_key=a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1\n"
	got := parseStats("rx_bytes=1\n" + key + "last_handshake_time_sec=3\nlast_handshake_time_nsec=5\nrx_bytes=7\ntx_bytes=9\nnews=1\npublic_key=short\nrx_bytes=8\n")
	if len(got) != 1 {
		t.Fatal(got)
	}
	for _, s := range got {
		if s.Rx != 7 || s.Tx != 9 || s.LastHandshake.UnixNano() != 3_000_000_005 {
			t.Fatalf("%+v", s)
		}
	}
}
