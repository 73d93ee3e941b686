package enrol

import (
	"slices"
	"strings"
	"testing"

	"enclave/store"
	"enclave/wire"
)

func TestRelayAddressesAreCheckedBeforeTheStoreIsAsked(t *testing.T) {
	for name, tc := range map[string]struct {
		r    wire.RelayInfo
		want int
	}{
		"fine":       {wire.RelayInfo{Addr: "relay.example:443", STUN: []string{"192.0.2.1:3478"}}, 0},
		"no address": {wire.RelayInfo{}, 1},
		"no port":    {wire.RelayInfo{Addr: "relay", STUN: []string{"192.0.2.1"}}, 2},
		"too long":   {wire.RelayInfo{Addr: strings.Repeat("a", 300) + ":1"}, 1},
		"too many":   {wire.RelayInfo{Addr: "a:1", STUN: make([]string, 17)}, 1},
		"no host":    {wire.RelayInfo{Addr: ":443"}, 1},
		"empty port": {wire.RelayInfo{Addr: "relay:"}, 1},
		"the most":   {wire.RelayInfo{Addr: strings.Repeat("a", maxRelayAddr-2) + ":1", STUN: slices.Repeat([]string{"a:1"}, store.MaxSTUN)}, 0},
		"one more":   {wire.RelayInfo{Addr: strings.Repeat("a", maxRelayAddr-1) + ":1"}, 1},
	} {
		if got := checkRelay(&tc.r); len(got) != tc.want {
			t.Errorf("%s: %v, want %d problems", name, got, tc.want)
		}
	}
}
