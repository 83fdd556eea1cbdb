// Package deploy holds manifests for clusters. Its tests check what can be checked without one.
package deploy
