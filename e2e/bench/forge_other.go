//go:build !linux

package bench

import (
	"errors"
	"net/netip"
)

func forge(netip.AddrPort, netip.AddrPort) (func([]byte) error, func(), error) {
	return nil, nil, errors.ErrUnsupported
}
