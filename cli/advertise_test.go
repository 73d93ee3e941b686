package cli

import (
	"net"
	"testing"
)

// TestEverySTUNSocketCanBeTold: one that takes every address is told with the relay's.
func TestEverySTUNSocketCanBeTold(t *testing.T) {
	conns, err := listenSTUN([]string{"127.0.0.1:0", "0.0.0.0:0", ":0"})
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(conns)
	for _, at := range []string{"relay.example:443", "[2001:db8::1]:443"} {
		relay, _, _ := net.SplitHostPort(at)
		wants := []string{"127.0.0.1", relay, relay}
		for i, text := range addresses(conns, at) {
			_, port, _ := net.SplitHostPort(conns[i].(*net.UDPConn).LocalAddr().String())
			if want := net.JoinHostPort(wants[i], port); text != want {
				t.Errorf("socket %d beside %s is told as %s, want %s", i, at, text, want)
			}
		}
	}
}
