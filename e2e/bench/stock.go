package bench

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

// stockNode is wireguard-go as it comes: its device, its tun/netstack and its bind,
// with no filter and no path finding. It is what ours is compared with.
type stockNode struct {
	dev  *device.Device
	net  *netstack.Net
	addr netip.Addr
	key  []byte // public
	port uint16
}

// mtu is the inner one, of all pairs that are compared.
const mtu = 1420

func newStockNode(addr netip.Addr) (*stockNode, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	tun, tnet, err := netstack.CreateNetTUN([]netip.Addr{addr}, nil, mtu)
	if err != nil {
		return nil, err
	}
	n := &stockNode{
		dev: device.NewDevice(tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, "")),
		net: tnet, addr: addr, key: private.PublicKey().Bytes(),
	}
	if err = n.dev.IpcSet("private_key=" + hex.EncodeToString(private.Bytes()) + "\n"); err == nil {
		err = n.dev.Up()
	}
	if err == nil {
		n.port, err = n.listenPort()
	}
	if err != nil {
		n.dev.Close()
		return nil, fmt.Errorf("stock node: %w", err)
	}
	return n, nil
}

func (n *stockNode) listenPort() (port uint16, err error) {
	text, err := n.dev.IpcGet()
	if err != nil {
		return 0, err
	}
	return parsePort(text)
}

func (n *stockNode) introduce(key []byte, addr netip.Addr, port uint16) error {
	return n.dev.IpcSet(fmt.Sprintf("public_key=%s\nendpoint=127.0.0.1:%d\nallowed_ip=%s/32\n", hex.EncodeToString(key), port, addr))
}

// dial opens a connection to port at the other node.
func (n *stockNode) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return n.net.DialContext(ctx, network, to.String())
}

func parsePort(text string) (port uint16, err error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "listen_port="); ok {
			_, err := fmt.Sscan(v, &port)
			return port, err
		}
	}
	return 0, errors.New("no listen port")
}
