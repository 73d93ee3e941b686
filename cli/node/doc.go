// Package node builds the processes of an enclave out of their parts: a control
// plane on a state directory, a relay that enrols with one, or both on one port.
//
// The commands, the demo and the end-to-end tests call it with listeners of their
// own, so that what runs on the simulated internet is what runs on a real one. It
// holds no logic of its own but the first start: who is the first administrator and
// with which key the first systems enrol.
package node
