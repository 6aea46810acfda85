#pragma once

namespace hippodrome {

// CPU time that other processes use, measured between construction (or the last restart) and the call of cores().
class NeighbourWatch {
 public:
  NeighbourWatch() { restart(); }
  void restart();
  // Cores' worth of time that others used since: 0 on a quiet machine. Zero, too, where /proc/stat does not tell.
  double cores() const;

 private:
  double start_wall_ = 0.0, start_others_ = 0.0;
};

// Waits until others use less than `cores` over a fifth of a second, at most `seconds`. Two busy threads on two busy cores wait
// for each other, which makes a disturbed timing many times too long.
void wait_for_quiet(double cores, double seconds);

}  // namespace hippodrome
