package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"enclave/wire"
)

// tries is how often a random pick may hit something taken before the slow way.
// In a space that is half full, all of them fail once in 2^32.
const tries = 32

// freeID picks a system ID that was never given out.
func (w *writing) freeID(ctx context.Context) (wire.SystemID, error) {
	for range tries {
		id := wire.SystemID(wire.NewID(5))
		free, err := w.free(ctx, `SELECT count(*) FROM (SELECT id FROM systems WHERE org_id = ?1 AND id = ?2
			UNION ALL SELECT system_id FROM retired_systems WHERE org_id = ?1 AND system_id = ?2)`, string(id))
		if err != nil || free {
			return id, err
		}
	}
	return "", conflict("no free system ID found")
}

// freeAddresses picks an address in each of the organisation's prefixes. Random,
// so that an address says nothing about its neighbours, and an old address is
// unlikely to be met again soon.
func (w *writing) freeAddresses(ctx context.Context) (v4, v6 netip.Addr, err error) {
	var p4, p6 netip.Prefix
	err = w.QueryRowContext(ctx, "SELECT ipv4, ipv6 FROM organisation WHERE org_id = ?", w.org).Scan(prefixCol{&p4}, prefixCol{&p6})
	if err != nil {
		return v4, v6, err
	}
	for range tries {
		v6 = randomIPv6(p6)
		free, err := w.free(ctx, "SELECT count(*) FROM systems WHERE org_id = ? AND ipv6 = ?", v6.String())
		if err != nil {
			return v4, v6, err
		}
		if free {
			v4, err = w.freeIPv4(ctx, p4)
			return v4, v6, err
		}
	}
	return v4, v6, ErrNoAddress
}

func (w *writing) freeIPv4(ctx context.Context, p netip.Prefix) (netip.Addr, error) {
	size := uint32(1) << (32 - p.Bits())
	for range tries {
		a := nthIPv4(p, random32()%size)
		if !usable(a) {
			continue
		}
		free, err := w.free(ctx, "SELECT count(*) FROM systems WHERE org_id = ? AND ipv4 = ?", a.String())
		if err != nil || free {
			return a, err
		}
	}
	// The prefix is small or nearly full: look at every address once.
	taken := make(map[netip.Addr]bool)
	err := rows(ctx, w, "SELECT ipv4 FROM systems WHERE org_id = ?", []any{w.org}, func(scan func(...any) error) error {
		var a netip.Addr
		err := scan(addrCol{&a})
		taken[a] = true
		return err
	})
	if err != nil {
		return netip.Addr{}, err
	}
	start := random32() % size
	for i := range size {
		if a := nthIPv4(p, (start+i)%size); usable(a) && !taken[a] {
			return a, nil
		}
	}
	return netip.Addr{}, ErrNoAddress
}

// free reports whether a count of (organisation, value) is zero.
func (w *writing) free(ctx context.Context, query, value string) (bool, error) {
	var n int
	err := w.QueryRowContext(ctx, query, w.org, value).Scan(&n)
	return n == 0, err
}

// usable leaves out .0 and .255: networks and broadcasts to some old software.
func usable(a netip.Addr) bool {
	last := a.As4()[3]
	return last != 0 && last != 255
}

func nthIPv4(p netip.Prefix, n uint32) netip.Addr {
	b := p.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

// randomIPv6 fills the interface identifier, the lower 64 bits; the bits between
// it and the prefix stay zero.
func randomIPv6(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	rand.Read(b[8:])
	return netip.AddrFrom16(b)
}

func random32() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}
