// Package e2e proves the product as a whole: scenarios that read as sentences over
// the simulated internet (e2e/natlab), the real binary as separate processes on
// loopback, and the rules of the house (floors, comments, links).
package e2e
