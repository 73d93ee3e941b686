//go:build keepdeps

package main

import (
	_ "filippo.io/age"
	_ "github.com/charmbracelet/bubbletea"
	_ "github.com/danielgtaylor/huma/v2"
	_ "github.com/dop251/goja"
	_ "github.com/spf13/cobra"
	_ "github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	_ "github.com/spiffe/go-spiffe/v2/spiffeid"
	_ "github.com/spiffe/go-spiffe/v2/svid/x509svid"
	_ "golang.org/x/crypto/nacl/box"
	_ "golang.org/x/net/http2"
	_ "golang.org/x/time/rate"
	_ "golang.zx2c4.com/wireguard/device"
	_ "golang.zx2c4.com/wireguard/tun/netstack"
	_ "gvisor.dev/gvisor/pkg/tcpip/stack"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "modernc.org/sqlite"
	_ "tailscale.com/net/stun"
)

func main() {}
