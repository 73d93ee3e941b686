//go:build !linux

package portmap

import "net/netip"

// gateway is not known here; UPnP finds the router by asking around.
func gateway() (netip.Addr, error) { return netip.Addr{}, errNoGateway }
