// Package ecs turns an ECS task definition that was written for App Mesh into one that runs
// with Fairlead, and shows the difference. It is pure, JSON in and JSON out, and may import
// the standard library only: no files, network or clock.
package ecs
