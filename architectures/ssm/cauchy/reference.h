// The sums of op.h in plain loops, forward and backward, over any scalar with + - * /.
#pragma once

#include <cstdint>

#include "architectures/ssm/cauchy/op.h"

namespace hippodrome {
namespace cauchy_reference {

// 1 / (i s - c λ) for λ = re + i im.
template <class T>
struct Resolvent {
  T re, im;
  Resolvent(T s, T c, T lambda_re, T lambda_im) {
    const T below_re = T(0) - c * lambda_re, below_im = s - c * lambda_im;
    const T square = below_re * below_re + below_im * below_im;
    re = below_re / square;
    im = (T(0) - below_im) / square;
  }
};

}  // namespace cauchy_reference

template <class T>
void cauchy_forward_reference(const CauchyForward<T>& p) {
  for (int64_t h = 0; h < p.channels; ++h) {
    for (int64_t m = 0; m < p.rows; ++m) {
      for (int64_t k = 0; k < p.nodes; ++k) {
        T re(0), im(0);
        for (int64_t n = 0; n < p.states; ++n) {
          const T *v = p.v + ((h * p.rows + m) * p.states + n) * 2, *lambda = p.lambda + (h * p.states + n) * 2;
          const cauchy_reference::Resolvent<T> one(p.sine[k], p.cosine[k], lambda[0], lambda[1]);
          const cauchy_reference::Resolvent<T> other(p.sine[k], p.cosine[k], lambda[0], T(0) - lambda[1]);
          re = re + v[0] * (one.re + other.re) - v[1] * (one.im - other.im);
          im = im + v[0] * (one.im + other.im) + v[1] * (one.re - other.re);
        }
        T* sum = p.sums + ((h * p.rows + m) * p.nodes + k) * 2;
        sum[0] = re;
        sum[1] = im;
      }
    }
  }
}

template <class T>
void cauchy_backward_reference(const CauchyBackward<T>& p) {
  for (int64_t i = 0; i < p.channels * p.rows * p.states * 2; ++i) p.grad_v[i] = T(0);
  for (int64_t i = 0; i < p.channels * p.states * 2; ++i) p.grad_lambda[i] = T(0);
  for (int64_t h = 0; h < p.channels; ++h) {
    for (int64_t n = 0; n < p.states; ++n) {
      const T* lambda = p.lambda + (h * p.states + n) * 2;
      T* grad_lambda = p.grad_lambda + (h * p.states + n) * 2;
      for (int64_t k = 0; k < p.nodes; ++k) {
        const cauchy_reference::Resolvent<T> one(p.sine[k], p.cosine[k], lambda[0], lambda[1]);
        const cauchy_reference::Resolvent<T> other(p.sine[k], p.cosine[k], lambda[0], T(0) - lambda[1]);
        T u_re(0), u_im(0), other_u_re(0), other_u_im(0);
        for (int64_t m = 0; m < p.rows; ++m) {
          const int64_t at = ((h * p.rows + m) * p.states + n) * 2;
          const T *v = p.v + at, *g = p.grad_sums + ((h * p.rows + m) * p.nodes + k) * 2;
          p.grad_v[at] = p.grad_v[at] + g[0] * (one.re + other.re) + g[1] * (one.im + other.im);
          p.grad_v[at + 1] = p.grad_v[at + 1] - g[0] * (one.im - other.im) + g[1] * (one.re - other.re);
          u_re = u_re + g[0] * v[0] + g[1] * v[1];
          u_im = u_im + g[0] * v[1] - g[1] * v[0];
          other_u_re = other_u_re + g[0] * v[0] - g[1] * v[1];
          other_u_im = other_u_im - g[0] * v[1] - g[1] * v[0];
        }
        const T square_re = one.re * one.re - one.im * one.im, square_im = one.re * one.im + one.re * one.im;
        const T other_re = other.re * other.re - other.im * other.im,
                other_im = other.re * other.im + other.re * other.im;
        const T t_re = u_re * square_re - u_im * square_im, t_im = u_re * square_im + u_im * square_re;
        const T other_t_re = other_u_re * other_re - other_u_im * other_im,
                other_t_im = other_u_re * other_im + other_u_im * other_re;
        grad_lambda[0] = grad_lambda[0] + p.cosine[k] * (t_re + other_t_re);
        grad_lambda[1] = grad_lambda[1] - p.cosine[k] * (t_im - other_t_im);
      }
    }
  }
}

}  // namespace hippodrome
