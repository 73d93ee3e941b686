package filter

import "testing"

// TestWhatEachTypeOfICMPMeans, all 256 of both versions (RFC 792, RFC 4443 and the IANA
// registries): a redirect or an advertisement of routes that passed for news of a flow would
// let a peer route for us.
func TestWhatEachTypeOfICMPMeans(t *testing.T) {
	four := map[uint8]icmpMeaning{
		8: {kind: kindRequest, query: 8}, 0: {kind: kindReply, query: 8}, 13: {kind: kindRequest, query: 13}, 14: {kind: kindReply, query: 13},
		3: {kind: kindError}, 11: {kind: kindError}, 12: {kind: kindError},
		4: {link: true}, 5: {link: true}, 9: {link: true}, 10: {link: true},
	}
	six := map[uint8]icmpMeaning{
		1: {kind: kindError}, 2: {kind: kindError}, 3: {kind: kindError}, 4: {kind: kindError},
		128: {kind: kindRequest, query: 128}, 129: {kind: kindReply, query: 128},
	}
	for _, typ := range []uint8{130, 131, 132, 133, 134, 135, 136, 137, 143, 148, 149, 150, 151, 152, 153} {
		six[typ] = icmpMeaning{link: true}
	}
	for v6, known := range map[bool]map[uint8]icmpMeaning{false: four, true: six} {
		for typ := range 256 {
			want, ok := known[uint8(typ)]
			if !ok {
				want = icmpMeaning{kind: kindOneWay}
			}
			if got := meaning(uint8(typ), v6); got != want {
				t.Errorf("type %d, IPv6 %t: %+v, want %+v", typ, v6, got, want)
			}
		}
	}
}
