package natlab

import "fmt"

// Drop says why the lab threw a packet away.
type Drop uint8

const (
	Passed        Drop = iota // it was not thrown away
	DropLoss                  // the link lost it
	DropQueue                 // a queue was full: of a link, of a socket, or of the lab
	DropMTU                   // too big for a link
	DropDown                  // a link was down, a host asleep, or gone from that network
	DropPartition             // Lab.Partition stood between the two hosts
	DropNoRoute               // nobody has that address
	DropNoSocket              // the host had no socket for it
	DropNoMapping             // a NAT knew no mapping for it
	DropFiltered              // a NAT or firewall filtered it
	DropBlocked               // a router forbids the protocol or the port
	DropHairpin               // a NAT does not hairpin
	DropNATFull               // a NAT had no port or no room left
	DropProtocol              // a NAT cannot carry the protocol
	DropFragment              // a fragment; the lab has none of its own
	DropTTL                   // hop limit used up
	DropMalformed             // a header made no sense
	DropChecksum              // a checksum was wrong at the receiving host
	drops
)

var dropNames = [drops]string{
	"passed", "loss", "queue full", "mtu", "down", "partition", "no route", "no socket",
	"no mapping", "filtered", "blocked", "hairpin", "nat full", "protocol", "fragment",
	"ttl", "malformed", "checksum",
}

func (d Drop) String() string {
	if d < drops {
		return dropNames[d]
	}
	return fmt.Sprintf("drop(%d)", uint8(d))
}
