package portmap

import (
	"encoding/hex"
	"net/netip"
	"strings"
)

// parseRoutes finds the default gateway in the text of /proc/net/route: columns by tabs,
// addresses as little-endian hexadecimal, flag 2 for a gateway.
func parseRoutes(text string) (netip.Addr, error) {
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil || len(b) != 4 {
			continue
		}
		if a := netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}); !a.IsUnspecified() {
			return a, nil
		}
	}
	return netip.Addr{}, errNoGateway
}
