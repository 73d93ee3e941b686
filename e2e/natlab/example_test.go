package natlab_test

import (
	"fmt"
	"net/netip"

	"enclave/e2e/natlab"
)

func Example() {
	lab := natlab.New(natlab.Config{Seed: 42}).Start()
	defer lab.Close()
	home := lab.Router("home", lab.Internet(), natlab.Easy())
	alice := lab.Host("alice", home.LAN())
	server := lab.Host("server", lab.Internet())

	listener, _ := server.ListenUDP(7)
	socket, _ := alice.ListenUDP(4000)
	socket.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(server.Addrs()[0], 7))

	b := make([]byte, 64)
	n, from, _ := listener.ReadFromUDPAddrPort(b)
	fmt.Printf("alice at %v says %s from %v\n", alice.Addrs()[0], b[:n], from)
	fmt.Println("two such homes can meet directly:", natlab.DirectPossible(natlab.Easy(), natlab.Easy()))
	// Output:
	// alice at 192.168.1.2 says hello from 203.0.113.2:4000
	// two such homes can meet directly: true
}
