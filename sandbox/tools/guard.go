package tools

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errGuarded is why a dial was refused.
var errGuarded = errors.New("the address is of this machine or its networks, and the tool does not declare it")

// special are ranges that netip has no word for and that are not the public internet.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), // this network; carriers', and overlays'
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"),
}

// global is what IANA gives out as global unicast. The rest of IPv6 is reserved, or
// translates to any IPv4 address.
var global = netip.MustParsePrefix("2000::/3")

// public reports whether an address is of the public internet (RFC 6890, RFC 4291).
func public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" || a.Is6() && !global.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// guarded dials public addresses, and those that the operator declared. The check is of
// the address that is connected to, after every name was resolved, so that no answer of
// a name server gets past it.
func guarded(allow []netip.Prefix) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	d.Control = func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		ip := ap.Addr().Unmap()
		for _, p := range allow {
			if p.Contains(ip) {
				return nil
			}
		}
		if !public(ip) {
			return fmt.Errorf("%s: %w", ip, errGuarded)
		}
		return nil
	}
	return d.DialContext
}

func prefixes(list []string) (out []netip.Prefix, err error) {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

var errRedirect = errors.New("redirected to another host")

// maxRedirects is how many redirects within one host are followed.
const maxRedirects = 3

// sameHost follows redirects of reading requests within scheme, host and port only:
// headers hold secrets, and another host is another declaration.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0]
	if req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host || (first.Method != "GET" && first.Method != "HEAD") {
		return errRedirect
	}
	if len(via) > maxRedirects {
		return errRedirect
	}
	return nil
}

// httpClient makes a client whose connections come from dial.
func httpClient(dial func(ctx context.Context, network, addr string) (net.Conn, error), idle int) *http.Client {
	return &http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
		DialContext: dial, Proxy: nil, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: idle, DisableKeepAlives: idle == 0, IdleConnTimeout: 60 * time.Second, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}}
}
