package filter_test

import (
	"fmt"
	"net/netip"
	"time"

	"enclave/agent/filter"
	"enclave/wire"
)

func Example() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	table := filter.New(filter.Config{Self: "WEB01", Addrs: []netip.Addr{netip.MustParseAddr("100.64.0.2")}})
	laptop := filter.Peer{
		ID:    "DEV01",
		Addrs: []netip.Addr{netip.MustParseAddr("100.64.0.1")},
		Grants: []wire.Grant{{
			From: "DEV01", To: "WEB01", Proto: wire.UDP, Ports: wire.Ports{{Lo: 53, Hi: 53}},
			NotAfter: now.Add(time.Hour), Policy: "dns",
		}},
	}
	table.Update([]filter.Peer{laptop}, "revision 7", now)

	query := []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2, // IPv4, UDP
		0x9c, 0x40, 0, 53, 0, 8, 0, 0, // from port 40000 to 53
	}
	fmt.Println(table.In(query, now))
	cuts, _ := table.Expire(now.Add(time.Minute))
	fmt.Println(len(cuts), "cut")
	for _, c := range table.Update(nil, "policy dns was disabled", now.Add(time.Minute)) {
		fmt.Println(c.Flow, "by", c.Flow.Policy, "was cut:", c.Cause)
	}
	fmt.Println(table.In(query, now.Add(time.Minute)))
	// Output:
	// accepted
	// 0 cut
	// udp 100.64.0.1:40000 -> 100.64.0.2:53 by dns was cut: policy dns was disabled
	// spoofed source
}
